package resource

import (
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateTemplate checks the selector and the template that must match it:
// else the controller would make pods that it does not find again, for ever.
// The errors of Deployments and ReplicaSets each speak of the other, too.
func validateTemplate(selector *metav1.LabelSelector, t *corev1.PodTemplateSpec) field.ErrorList {
	errs := validateWorkloadSelector("deployment", selector)
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return append(errs, field.Invalid(specPath.Child("selector"), selector, "invalid label selector"))
	}
	if !parsed.Empty() && !parsed.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(templatePath.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	return append(errs, validateLastingTemplate("ReplicaSet", t)...)
}

func validateWorkloadSelector(kind string, selector *metav1.LabelSelector) field.ErrorList {
	path := specPath.Child("selector")
	if selector == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := validateSelector(selector, path)
	if len(selector.MatchLabels)+len(selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path, selector, "empty selector is invalid for "+kind))
	}
	return errs
}

var templatePath = specPath.Child("template")

func validateLastingTemplate(owner string, t *corev1.PodTemplateSpec) field.ErrorList {
	return append(validatePodTemplate(t), validateLasting(owner, t)...)
}

// validateLasting: a workload that keeps its pods has no use for one that comes
// to its end.
func validateLasting(owner string, t *corev1.PodTemplateSpec) field.ErrorList {
	var errs field.ErrorList
	if p := t.Spec.RestartPolicy; p != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(templatePath.Child("spec", "restartPolicy"), p, []corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(templatePath.Child("spec", "activeDeadlineSeconds"), fmt.Sprintf("activeDeadlineSeconds in %s is not Supported", owner)))
	}
	return errs
}

func validatePodTemplate(t *corev1.PodTemplateSpec) field.ErrorList {
	errs := append(validateTemplateMeta(t), validatePodSpec(&t.Spec, false, templatePath.Child("spec"))...)
	if len(t.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(templatePath.Child("spec", "ephemeralContainers"), "ephemeral containers not allowed in pod template"))
	}
	return errs
}

func validateTemplateMeta(t *corev1.PodTemplateSpec) field.ErrorList {
	return append(validateLabels(t.Labels, templatePath.Child("labels")), apivalidation.ValidateAnnotations(t.Annotations, templatePath.Child("annotations"))...)
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
	errs := notNegative(int64(r.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))
	if len(r.Spec.Selector) == 0 {
		errs = append(errs, field.Required(specPath.Child("selector"), ""))
	}
	errs = append(errs, validateReplicas(r.Spec.Replicas)...)
	t := r.Spec.Template
	if t == nil {
		return append(errs, field.Required(templatePath, ""))
	}
	if len(r.Spec.Selector) > 0 && !selects(r.Spec.Selector, t.Labels) {
		errs = append(errs, field.Invalid(templatePath.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	return append(errs, validateLastingTemplate("ReplicationController", t)...)
}

func validateReplicaSet(r, old *appsv1.ReplicaSet) field.ErrorList {
	errs := validateReplicas(r.Spec.Replicas)
	errs = append(errs, notNegative(int64(r.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	errs = append(errs, validateTemplate(r.Spec.Selector, &r.Spec.Template)...)
	if old != nil {
		errs = append(errs, immutableSelector(r.Spec.Selector, old.Spec.Selector)...)
	}
	return errs
}

func validateDeployment(d, old *appsv1.Deployment) field.ErrorList {
	errs := validateReplicas(d.Spec.Replicas)
	errs = append(errs, validateTemplate(d.Spec.Selector, &d.Spec.Template)...)
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
		return append(errs, notMoreThanAll(unavailable, path.Child("rollingUpdate", "maxUnavailable"))...)
	default:
		return field.ErrorList{field.NotSupported(path, internalForm{s}, []string{"Recreate", "RollingUpdate"})}
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
	return each(path, n, validation.IsValidPercent(n.StrVal))
}

func notMoreThanAll(n *intstr.IntOrString, path *field.Path) field.ErrorList {
	if n == nil || n.Type == intstr.Int || len(validation.IsValidPercent(n.StrVal)) > 0 || shareOf(n) <= 100 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, n, "must not be greater than 100%")}
}

// shareOf is the number, with a percentage or without.
func shareOf(n *intstr.IntOrString) int {
	if n == nil {
		return 0
	}
	if n.Type == intstr.Int {
		return int(n.IntVal)
	}
	share, _ := strconv.Atoi(strings.TrimSuffix(n.StrVal, "%"))
	return share
}

func isZero(n *intstr.IntOrString) bool { return shareOf(n) == 0 }

func validateDaemonSet(d, old *appsv1.DaemonSet) field.ErrorList {
	var errs field.ErrorList
	if old != nil {
		errs = immutableSelector(d.Spec.Selector, old.Spec.Selector)
	}
	path := specPath.Child("selector")
	errs = append(errs, validateSelector(d.Spec.Selector, path)...)
	if parsed, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); err == nil && !parsed.Matches(labels.Set(d.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(templatePath.Child("metadata", "labels"), d.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	if s := d.Spec.Selector; s != nil && len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path, s, "empty selector is invalid for daemonset"))
	}
	errs = append(errs, validateLastingTemplate("DaemonSet", &d.Spec.Template)...)
	errs = append(errs, notNegative(int64(d.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	errs = append(errs, validateDaemonSetStrategy(&d.Spec.UpdateStrategy, specPath.Child("updateStrategy"))...)
	if n := d.Spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, notNegative(int64(*n), specPath.Child("revisionHistoryLimit"))...)
	}
	return errs
}

func validateDaemonSetStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) field.ErrorList {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return field.ErrorList{field.NotSupported(path, internalForm{s}, []appsv1.DaemonSetUpdateStrategyType{appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType})}
	}
	unavailable, surge := s.RollingUpdate.MaxUnavailable, s.RollingUpdate.MaxSurge
	atUnavailable, atSurge := path.Child("rollingUpdate", "maxUnavailable"), path.Child("rollingUpdate", "maxSurge")
	errs := append(validateShare(unavailable, atUnavailable), validateShare(surge, atSurge)...)
	errs = append(errs, notMoreThanAll(unavailable, atUnavailable)...)
	errs = append(errs, notMoreThanAll(surge, atSurge)...)
	switch {
	case !isZero(unavailable) && !isZero(surge):
		errs = append(errs, field.Invalid(atSurge, surge, "may not be set when maxUnavailable is non-zero"))
	case isZero(unavailable) && isZero(surge):
		errs = append(errs, field.Required(atUnavailable, "cannot be 0 when maxSurge is 0"))
	}
	return errs
}
