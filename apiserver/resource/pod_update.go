package resource

import (
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePodChange: a pod runs already, so little of its spec may change.
func validatePodChange(p, old *corev1.Pod) field.ErrorList {
	errs := validatePodAnnotations(p, old)
	for _, list := range []struct {
		name     string
		now, old []corev1.Container
	}{
		{"containers", p.Spec.Containers, old.Spec.Containers},
		{"initContainers", p.Spec.InitContainers, old.Spec.InitContainers},
	} {
		at := specPath.Child(list.name)
		if len(list.now) != len(list.old) {
			return append(errs, field.Forbidden(at, "pod updates may not add or remove containers"))
		}
		for i, c := range list.now {
			errs = append(errs, required(c.Image, at.Index(i).Child("image"))...)
			errs = append(errs, validateImage(c.Image, at.Index(i).Child("image"))...)
		}
	}
	late, stop := validateDeadlineChange(p.Spec.ActiveDeadlineSeconds, old.Spec.ActiveDeadlineSeconds)
	if errs = append(errs, late...); stop {
		return errs
	}
	if at := specPath.Child("tolerations"); addsOnly(old.Spec.Tolerations, p.Spec.Tolerations) {
		errs = append(errs, validateTolerations(p.Spec.Tolerations, at)...)
	} else {
		errs = append(errs, field.Forbidden(at, "existing toleration can not be modified except its tolerationSeconds"))
	}
	for i, gate := range p.Spec.SchedulingGates {
		if !slices.Contains(old.Spec.SchedulingGates, gate) {
			errs = append(errs, field.Forbidden(specPath.Child("schedulingGates").Index(i).Child("name"), fmt.Sprintf("only deletion is allowed, but found new scheduling gate '%s'", gate.Name)))
		}
	}
	allowed := p.Spec.DeepCopy()
	takeBack(allowed, &old.Spec)
	if len(old.Spec.SchedulingGates) > 0 {
		errs = append(errs, validateGatedChange(allowed, &old.Spec)...)
	}
	if !equality.Semantic.DeepEqual(allowed, &old.Spec) {
		errs = append(errs, field.Forbidden(specPath, "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"+
			diff.Diff(internalForm{&old.Spec}, internalForm{allowed})))
	}
	return errs
}

// validatePodAnnotations: a mirror pod stays one, for its annotation says which
// file of the kubelet it shows.
func validatePodAnnotations(p, old *corev1.Pod) field.ErrorList {
	now, is := p.Annotations[corev1.MirrorPodAnnotationKey]
	before, was := old.Annotations[corev1.MirrorPodAnnotationKey]
	at := field.NewPath("metadata", "annotations").Key(corev1.MirrorPodAnnotationKey)
	switch {
	case was && (!is || now != before):
		return field.ErrorList{field.Forbidden(at, "may not remove or update mirror pod annotation")}
	case is && !was:
		return field.ErrorList{field.Forbidden(at, "may not add mirror pod annotation")}
	}
	return nil
}

// validateDeadlineChange: a deadline may be set, and come nearer.
func validateDeadlineChange(now, old *int64) (errs field.ErrorList, stop bool) {
	at := specPath.Child("activeDeadlineSeconds")
	switch {
	case now == nil && old != nil:
		return field.ErrorList{field.Invalid(at, now, "must not update from a positive integer to nil value")}, false
	case now == nil:
		return nil, false
	case *now < 0 || *now > math.MaxInt32:
		return field.ErrorList{field.Invalid(at, *now, validation.InclusiveRangeError(0, math.MaxInt32))}, true
	case old != nil && *old < *now:
		return field.ErrorList{field.Invalid(at, *now, "must be less than or equal to previous value")}, true
	}
	return nil, false
}

func addsOnly(old, now []corev1.Toleration) bool {
	for _, o := range old {
		if !slices.ContainsFunc(now, func(n corev1.Toleration) bool {
			n.TolerationSeconds = o.TolerationSeconds
			return n == o
		}) {
			return false
		}
	}
	return true
}

// takeBack undoes what may change, so that the rest can be compared.
func takeBack(s, old *corev1.PodSpec) {
	for i := range s.Containers {
		s.Containers[i].Image = old.Containers[i].Image
	}
	for i := range s.InitContainers {
		s.InitContainers[i].Image = old.InitContainers[i].Image
	}
	s.ActiveDeadlineSeconds = old.ActiveDeadlineSeconds
	s.SchedulingGates = old.SchedulingGates
	s.Tolerations = old.Tolerations
	if was, is := old.TerminationGracePeriodSeconds, s.TerminationGracePeriodSeconds; was != nil && *was < 0 && is != nil && *is == 1 {
		s.TerminationGracePeriodSeconds = was
	}
}

// validateGatedChange: a pod that waits at a gate has no node yet, so its choice
// of nodes may become narrower. It takes back what it has looked at.
func validateGatedChange(s, old *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	if !selects(old.NodeSelector, s.NodeSelector) {
		errs = append(errs, field.Invalid(specPath.Child("nodeSelector"), s.NodeSelector, "only additions to spec.nodeSelector are allowed (no mutations or deletions)"))
	}
	s.NodeSelector = old.NodeSelector
	var now, before *corev1.NodeAffinity
	if s.Affinity != nil {
		now = s.Affinity.NodeAffinity
	}
	if old.Affinity != nil {
		before = old.Affinity.NodeAffinity
	}
	errs = append(errs, validateNarrower(now, before, specPath.Child("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"))...)
	switch {
	case s.Affinity == nil && before != nil:
		s.Affinity = &corev1.Affinity{NodeAffinity: before}
	case s.Affinity != nil && old.Affinity == nil && s.Affinity.PodAffinity == nil && s.Affinity.PodAntiAffinity == nil:
		s.Affinity = nil
	case s.Affinity != nil:
		s.Affinity.NodeAffinity = before
	}
	return errs
}

// validateNarrower: one more term is one more way to fit, one more requirement
// in a term is one way less.
func validateNarrower(now, old *corev1.NodeAffinity, at *field.Path) field.ErrorList {
	terms := func(a *corev1.NodeAffinity) []corev1.NodeSelectorTerm {
		if a == nil || a.RequiredDuringSchedulingIgnoredDuringExecution == nil {
			return nil
		}
		return a.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	}
	have, had := terms(now), terms(old)
	if len(had) > 0 && len(have) != len(had) {
		return field.ErrorList{field.Invalid(at, internalForm{have}, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")}
	}
	begins := func(now, old []corev1.NodeSelectorRequirement) bool {
		return len(now) >= len(old) && equality.Semantic.DeepEqual(now[:len(old)], old)
	}
	var errs field.ErrorList
	for i, o := range had {
		n := have[i]
		empty := len(o.MatchExpressions)+len(o.MatchFields) == 0 // matches no node, and shall not begin to
		if !begins(n.MatchExpressions, o.MatchExpressions) || !begins(n.MatchFields, o.MatchFields) || (empty && len(n.MatchExpressions)+len(n.MatchFields) > 0) {
			errs = append(errs, field.Invalid(at.Index(i), internalForm{n}, "only additions are allowed (no mutations or deletions)"))
		}
	}
	return errs
}
