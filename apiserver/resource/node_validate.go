package resource

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	netutils "k8s.io/utils/net"
)

func validateNode(n, _ *corev1.Node) field.ErrorList {
	return append(validateTaints(n.Spec.Taints), validatePodCIDRs(n.Spec.PodCIDRs)...)
}

// validateNodeChange: what pods on the node rely on is decided once.
func validateNodeChange(n, old *corev1.Node) field.ErrorList {
	errs := samePodCIDRs(n.Spec.PodCIDRs, old.Spec.PodCIDRs)
	if old.Spec.ProviderID != "" && n.Spec.ProviderID != old.Spec.ProviderID {
		errs = append(errs, field.Forbidden(specPath.Child("providerID"), "node updates may not change providerID except from \"\" to valid"))
	}
	errs = append(errs, validateTaints(n.Spec.Taints)...) // told twice, as by upstream
	if n.Spec.DoNotUseExternalID != old.Spec.DoNotUseExternalID {
		errs = append(errs, field.Forbidden(specPath.Child("externalID"), "may not be updated"))
	}
	return errs
}

// samePodCIDRs has an error for each range that changed.
func samePodCIDRs(list, before []string) field.ErrorList {
	changed := field.Forbidden(specPath.Child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid")
	if len(before) > 0 && len(list) != len(before) {
		return field.ErrorList{changed}
	}
	var errs field.ErrorList
	for i := range before {
		if list[i] != before[i] {
			errs = append(errs, changed)
		}
	}
	return errs
}

// validatePodCIDRs: one range, or one of each family.
func validatePodCIDRs(list []string) field.ErrorList {
	at := specPath.Child("podCIDRs")
	var errs field.ErrorList
	for i, cidr := range list {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at.Index(i), cidr, strictIPs, nil)...)
	}
	if len(list) < 2 {
		return errs
	}
	dual, err := netutils.IsDualStackCIDRStrings(list)
	if err != nil {
		errs = append(errs, field.InternalError(at, fmt.Errorf("invalid PodCIDRs. failed to check with dual stack with error:%w", err)))
	}
	if !dual || len(list) > 2 {
		errs = append(errs, field.Invalid(at, list, "may specify no more than one CIDR for each IP family"))
	}
	return errs
}

// validateTaints: upstream's errors say metadata.taints, though they are in spec.
func validateTaints(taints []corev1.Taint) field.ErrorList {
	path := field.NewPath("metadata", "taints")
	type identity struct {
		effect corev1.TaintEffect
		key    string
	}
	seen := map[identity]bool{}
	var errs field.ErrorList
	for i, t := range taints {
		at := path.Index(i)
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, at.Child("key"))...)
		if wrong := validation.IsValidLabelValue(t.Value); len(wrong) > 0 {
			errs = append(errs, field.Invalid(at.Child("value"), t.Value, strings.Join(wrong, ";")))
		}
		errs = append(errs, supported(t.Effect, at.Child("effect"), corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)...)
		if seen[identity{t.Effect, t.Key}] {
			errs = append(errs, taintTwice(t, at))
		}
		seen[identity{t.Effect, t.Key}] = true
	}
	return errs
}

// taintTwice shows the taint as upstream's internal type has it.
func taintTwice(t corev1.Taint, at *field.Path) *field.Error {
	err := field.Duplicate(at, struct {
		Key, Value string
		Effect     corev1.TaintEffect
		TimeAdded  *metav1.Time
	}(t))
	err.Detail = "taints must be unique by key and effect pair"
	return err
}

func warnNode(n *corev1.Node) []string {
	var list []string
	if n.Spec.ConfigSource != nil { //nolint:staticcheck // it is refused
		list = append(list, specPath.Child("configSource").String()+": the feature is removed")
	}
	if n.Spec.DoNotUseExternalID != "" {
		list = append(list, specPath.Child("externalID").String()+": this field is deprecated, and is unused by Kubernetes")
	}
	for i, cidr := range n.Spec.PodCIDRs {
		list = append(list, validation.GetWarningsForCIDR(specPath.Child("podCIDRs").Index(i), cidr)...)
	}
	return list
}
