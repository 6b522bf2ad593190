package resource

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var metaPath = field.NewPath("metadata")

func (k *Kind) nameRule() apivalidation.ValidateNameFunc {
	if k.NameRule == nil {
		return apivalidation.NameIsDNSSubdomain
	}
	return k.NameRule
}

func (k *Kind) validateNewMeta(obj Object, rule apivalidation.ValidateNameFunc) field.ErrorList {
	return apivalidation.ValidateObjectMetaAccessor(obj, k.Namespaced, rule, metaPath)
}

// validateOwnMeta is what a kind's own rules say of the metadata of a new object.
func (k *Kind) validateOwnMeta(obj Object) field.ErrorList {
	return append(k.validateNewMeta(obj, k.nameRule()), k.validateFinalizers(obj)...)
}

// validateOwnChange is what they say of the metadata of a changed one.
func (k *Kind) validateOwnChange(obj, old Object) field.ErrorList {
	return append(changedMeta(obj, old), k.validateFinalizers(obj)...)
}

func (k *Kind) validateFinalizers(obj Object) field.ErrorList {
	var errs field.ErrorList
	if k.AnyFinalizer {
		return errs
	}
	for i, name := range obj.GetFinalizers() {
		errs = append(errs, qualifiedFinalizer(name, metaPath.Child("finalizers").Index(i))...)
	}
	return errs
}

// qualifiedFinalizer: a finalizer of one word is one of Kubernetes' own; others
// are named example.com/name.
func qualifiedFinalizer(name string, at *field.Path) field.ErrorList {
	switch name {
	case string(corev1.FinalizerKubernetes), metav1.FinalizerOrphanDependents, metav1.FinalizerDeleteDependents:
		return nil
	}
	if strings.Contains(name, "/") {
		return nil
	}
	return field.ErrorList{field.Invalid(at, name, "name is neither a standard finalizer name nor is it fully qualified")}
}

func changedMeta(obj, old Object) field.ErrorList {
	return apivalidation.ValidateObjectMetaAccessorUpdate(obj, old, metaPath)
}

// validateMetaChange is what all kinds have in common on update. The name is
// that of an object that exists, so it need only be one segment of a path.
func (k *Kind) validateMetaChange(obj, old Object) field.ErrorList {
	return append(k.validateNewMeta(obj, roleName), changedMeta(obj, old)...)
}

// metaBefore is what the kind's own rules say of metadata before the rest.
func (k *Kind) metaBefore(obj, old Object) field.ErrorList {
	switch k.MetaAgain {
	case metaTwice:
		return append(k.validateOwnChange(obj, old), k.validateOwnMeta(obj)...)
	case metaAround:
		return k.validateOwnMeta(obj)
	case metaNever:
		return nil
	}
	return k.validateOwnChange(obj, old)
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
