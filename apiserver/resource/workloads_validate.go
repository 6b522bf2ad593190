package resource

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateTemplate checks the selector and the template that must match it:
// else the controller would make pods that it does not find again, for ever.
func validateTemplate(kind string, selector *metav1.LabelSelector, t *corev1.PodTemplateSpec) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("selector")
	if selector == nil {
		errs = append(errs, field.Required(path, ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, path)...)
		if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(path, selector, "empty selector is invalid for "+kind))
		}
	}
	if parsed, err := metav1.LabelSelectorAsSelector(selector); err != nil {
		errs = append(errs, field.Invalid(path, selector, "invalid label selector"))
	} else if !parsed.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(specPath.Child("template", "metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	return append(errs, validatePodTemplate(t)...)
}

func validatePodTemplate(t *corev1.PodTemplateSpec) field.ErrorList {
	path := specPath.Child("template", "spec")
	errs := validateLabels(t.Labels, specPath.Child("template", "metadata", "labels"))
	errs = append(errs, validatePodSpec(&t.Spec, path)...)
	if p := t.Spec.RestartPolicy; p == corev1.RestartPolicyOnFailure || p == corev1.RestartPolicyNever {
		errs = append(errs, field.NotSupported(path.Child("restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	return errs
}

func validateReplicas(n *int32) field.ErrorList {
	if n == nil {
		return nil
	}
	return notNegative(int64(*n), specPath.Child("replicas"))
}

func immutableSelector(now, old *metav1.LabelSelector) field.ErrorList {
	if equality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(specPath.Child("selector"), now, "field is immutable")}
}

func validateReplicationController(r, old *corev1.ReplicationController) field.ErrorList {
	errs := validateReplicas(r.Spec.Replicas)
	errs = append(errs, notNegative(int64(r.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	if len(r.Spec.Selector) == 0 {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	}
	if r.Spec.Template == nil {
		return append(errs, field.Required(specPath.Child("template"), ""))
	}
	if len(r.Spec.Selector) > 0 && !selects(r.Spec.Selector, r.Spec.Template.Labels) {
		errs = append(errs, field.Invalid(specPath.Child("template", "metadata", "labels"), r.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return append(errs, validatePodTemplate(r.Spec.Template)...)
}

func validateReplicaSet(r, old *appsv1.ReplicaSet) field.ErrorList {
	errs := validateReplicas(r.Spec.Replicas)
	errs = append(errs, notNegative(int64(r.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	errs = append(errs, validateTemplate("deployment", r.Spec.Selector, &r.Spec.Template)...)
	if old != nil {
		errs = append(errs, immutableSelector(r.Spec.Selector, old.Spec.Selector)...)
	}
	return errs
}

// deploymentStrategy is how upstream's message shows a strategy.
type deploymentStrategy struct {
	Type          appsv1.DeploymentStrategyType
	RollingUpdate *appsv1.RollingUpdateDeployment
}

func validateDeployment(d, old *appsv1.Deployment) field.ErrorList {
	errs := validateReplicas(d.Spec.Replicas)
	errs = append(errs, validateTemplate("deployment", d.Spec.Selector, &d.Spec.Template)...)
	errs = append(errs, validateStrategy(&d.Spec.Strategy)...)
	errs = append(errs, notNegative(int64(d.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	if n := d.Spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, notNegative(int64(*n), specPath.Child("revisionHistoryLimit"))...)
	}
	if n := d.Spec.ProgressDeadlineSeconds; n != nil {
		errs = append(errs, notNegative(int64(*n), specPath.Child("progressDeadlineSeconds"))...)
		if *n <= d.Spec.MinReadySeconds {
			errs = append(errs, field.Invalid(specPath.Child("progressDeadlineSeconds"), *n, "must be greater than minReadySeconds"))
		}
	}
	if old != nil {
		errs = append(errs, immutableSelector(d.Spec.Selector, old.Spec.Selector)...)
	}
	return errs
}

func validateStrategy(s *appsv1.DeploymentStrategy) field.ErrorList {
	path := specPath.Child("strategy")
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Forbidden(path.Child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'")}
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		unavailable, surge := s.RollingUpdate.MaxUnavailable, s.RollingUpdate.MaxSurge
		errs := validateShare(unavailable, path.Child("rollingUpdate", "maxUnavailable"))
		errs = append(errs, validateShare(surge, path.Child("rollingUpdate", "maxSurge"))...)
		if isZero(unavailable) && isZero(surge) {
			errs = append(errs, field.Invalid(path.Child("rollingUpdate", "maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
		}
		return errs
	default:
		return field.ErrorList{field.NotSupported(path, deploymentStrategy{Type: s.Type}, []string{"Recreate", "RollingUpdate"})}
	}
	return nil
}

// validateShare: a number of pods, or a percentage such as "25%".
func validateShare(n *intstr.IntOrString, path *field.Path) field.ErrorList {
	if n == nil {
		return nil
	}
	if n.Type == intstr.Int {
		return notNegative(int64(n.IntVal), path)
	}
	if _, err := intstr.GetScaledValueFromIntOrPercent(n, 100, false); err != nil {
		return field.ErrorList{field.Invalid(path, n, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')")}
	}
	return nil
}

func isZero(n *intstr.IntOrString) bool {
	if n == nil {
		return true
	}
	value, err := intstr.GetScaledValueFromIntOrPercent(n, 100, true)
	return err == nil && value == 0
}

func validateDaemonSet(d, old *appsv1.DaemonSet) field.ErrorList {
	errs := validateTemplate("daemonset", d.Spec.Selector, &d.Spec.Template)
	errs = append(errs, notNegative(int64(d.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	errs = append(errs, supported(d.Spec.UpdateStrategy.Type, specPath.Child("updateStrategy", "type"), appsv1.OnDeleteDaemonSetStrategyType, appsv1.RollingUpdateDaemonSetStrategyType)...)
	if old != nil {
		errs = append(errs, immutableSelector(d.Spec.Selector, old.Spec.Selector)...)
	}
	return errs
}
