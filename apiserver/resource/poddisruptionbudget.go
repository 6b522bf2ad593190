package resource

import (
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// PodDisruptionBudget says how many pods of an application may be missing at
// once because somebody drains nodes.
var PodDisruptionBudget = &Kind{
	GroupVersion: policyV1,
	Kind:         "PodDisruptionBudget", Plural: "poddisruptionbudgets", Singular: "poddisruptionbudget", ShortNames: []string{"pdb"},
	Namespaced: true, Prefix: "/registry/poddisruptionbudgets/",
	New:      func() Object { return &policyv1.PodDisruptionBudget{} },
	NewList:  func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
	Validate: check(validateBudget),
	Status:   true, Generation: true,
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Min Available", "string"), column("Max Unavailable", "string"), column("Allowed Disruptions", "integer"), column("Age", "string"),
	},
	Row: row(func(b *policyv1.PodDisruptionBudget, now time.Time) []any {
		return []any{b.Name, orNA(b.Spec.MinAvailable), orNA(b.Spec.MaxUnavailable), int64(b.Status.DisruptionsAllowed), created(b, now)}
	}),
}

func orNA(n *intstr.IntOrString) string {
	if n == nil {
		return "N/A"
	}
	return n.String()
}

func validateBudget(b, _ *policyv1.PodDisruptionBudget) field.ErrorList {
	var errs field.ErrorList
	if b.Spec.MinAvailable != nil && b.Spec.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(specPath, b.Spec, "minAvailable and maxUnavailable cannot be both set"))
	}
	for name, n := range map[string]*intstr.IntOrString{"minAvailable": b.Spec.MinAvailable, "maxUnavailable": b.Spec.MaxUnavailable} {
		if n == nil {
			continue
		}
		bad := validateShare(n, specPath.Child(name))
		errs = append(errs, bad...)
		if share, err := intstr.GetScaledValueFromIntOrPercent(n, 100, false); len(bad) == 0 && err == nil && n.Type == intstr.String && strings.HasSuffix(n.StrVal, "%") && share > 100 {
			errs = append(errs, field.Invalid(specPath.Child(name), n, "must not be greater than 100%"))
		}
	}
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil {
		errs = append(errs, supported(*p, specPath.Child("unhealthyPodEvictionPolicy"), policyv1.AlwaysAllow, policyv1.IfHealthyBudget)...)
	}
	if b.Spec.Selector != nil {
		errs = append(errs, metav1validation.ValidateLabelSelector(b.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, specPath.Child("selector"))...)
	}
	return errs
}
