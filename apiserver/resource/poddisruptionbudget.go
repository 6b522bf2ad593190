package resource

import (
	"slices"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
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
	MetaAgain: metaNever, AnyFinalizer: true,
	New:      func() Object { return &policyv1.PodDisruptionBudget{} },
	NewList:  func() runtime.Object { return &policyv1.PodDisruptionBudgetList{} },
	Validate: check(validateBudget),
	NameRule: func(name string, _ bool) []string { return content.IsPathSegmentName(name) },
	Status:   true, Generation: true, NamesVersion: true,
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
	errs = append(errs, validateBudgetShare(b.Spec.MinAvailable, specPath.Child("minAvailable"))...)
	errs = append(errs, validateBudgetShare(b.Spec.MaxUnavailable, specPath.Child("maxUnavailable"))...)
	errs = append(errs, metav1validation.ValidateLabelSelector(b.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, specPath.Child("selector"))...)
	policies := []policyv1.UnhealthyPodEvictionPolicyType{policyv1.AlwaysAllow, policyv1.IfHealthyBudget}
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && !slices.Contains(policies, *p) {
		errs = append(errs, field.NotSupported(specPath.Child("unhealthyPodEvictionPolicy"), *p, policies))
	}
	return errs
}

func validateBudgetShare(n *intstr.IntOrString, at *field.Path) field.ErrorList {
	errs := validateShare(n, at)
	if n == nil || n.Type != intstr.String || len(errs) > 0 {
		return errs
	}
	if share, err := intstr.GetScaledValueFromIntOrPercent(n, 100, false); err == nil && share > 100 {
		errs = append(errs, field.Invalid(at, n, "must not be greater than 100%"))
	}
	return errs
}
