package resource

import (
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// ValidateMeta checks what all kinds have in common; old is nil on create.
func (k *Kind) ValidateMeta(obj, old Object) field.ErrorList {
	rule := k.NameRule
	if rule == nil {
		rule = apivalidation.NameIsDNSSubdomain
	}
	at := field.NewPath("metadata")
	if old != nil {
		return apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, at)
	}
	return apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, apivalidation.ValidateNameFunc(rule), at)
}

func nameIsIP(name string, _ bool) []string {
	var msgs []string
	for _, err := range validation.IsValidIP(&field.Path{}, name) {
		msgs = append(msgs, err.Detail)
	}
	return msgs
}

func validateLabels(labels map[string]string, at *field.Path) field.ErrorList {
	return metav1validation.ValidateLabels(labels, at)
}

func notNegative(n int64, at *field.Path) field.ErrorList {
	return apivalidation.ValidateNonnegativeField(n, at)
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}
