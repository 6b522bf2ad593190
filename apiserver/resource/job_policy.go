package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// maxPolicyRules is the most rules which a podFailurePolicy or a successPolicy may have.
const maxPolicyRules = 20

func defaultFailurePolicy(policy *batchv1.PodFailurePolicy) {
	if policy == nil {
		return
	}
	for i := range policy.Rules {
		for j := range policy.Rules[i].OnPodConditions {
			if pattern := &policy.Rules[i].OnPodConditions[j]; pattern.Status == "" {
				pattern.Status = corev1.ConditionTrue
			}
		}
	}
}

// validateJobPolicies: what ends a job early, or makes failures count
// differently, needs pods that are not restarted in place, and mostly indexes.
func validateJobPolicies(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	restart := s.Template.Spec.RestartPolicy
	replacement := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if s.PodFailurePolicy != nil {
		replacement = replacement[:1]
		if restart != corev1.RestartPolicyNever {
			errs = append(errs, field.Invalid(specPath.Child("template", "spec", "restartPolicy"), restart, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever)))
		}
		errs = append(errs, validateFailurePolicy(s, specPath.Child("podFailurePolicy", "rules"))...)
	}
	if !slices.Contains(replacement, *s.PodReplacementPolicy) {
		errs = append(errs, field.NotSupported(specPath.Child("podReplacementPolicy"), *s.PodReplacementPolicy, replacement))
	}
	indexed := *s.CompletionMode == batchv1.IndexedCompletion
	if s.SuccessPolicy != nil {
		if !indexed {
			errs = append(errs, field.Invalid(specPath.Child("successPolicy"), *s.SuccessPolicy, "requires indexed completion mode"))
		} else {
			errs = append(errs, validateSuccessPolicy(s, specPath.Child("successPolicy", "rules"))...)
		}
	}
	return append(errs, validateIndexLimits(s, indexed)...)
}

func validateIndexLimits(s *batchv1.JobSpec, indexed bool) field.ErrorList {
	var errs field.ErrorList
	perIndex, most := specPath.Child("backoffLimitPerIndex"), specPath.Child("maxFailedIndexes")
	if s.BackoffLimitPerIndex != nil {
		if !indexed {
			errs = append(errs, field.Invalid(perIndex, *s.BackoffLimitPerIndex, "requires indexed completion mode"))
		}
		if restart := s.Template.Spec.RestartPolicy; restart != corev1.RestartPolicyNever {
			errs = append(errs, field.Invalid(specPath.Child("template", "spec", "restartPolicy"), restart, fmt.Sprintf("only %q is supported when backoffLimitPerIndex is specified", corev1.RestartPolicyNever)))
		}
	}
	if s.MaxFailedIndexes != nil {
		if s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Required(perIndex, "when maxFailedIndexes is specified"))
		}
		if s.Completions != nil && *s.MaxFailedIndexes > *s.Completions {
			errs = append(errs, field.Invalid(most, *s.MaxFailedIndexes, "must be less than or equal to completions"))
		}
	}
	return errs
}

func validateFailurePolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(s.PodFailurePolicy.Rules); n > maxPolicyRules {
		errs = append(errs, field.TooMany(path, n, maxPolicyRules))
	}
	actions := []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex, batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}
	for i, rule := range s.PodFailurePolicy.Rules {
		at := path.Index(i)
		switch {
		case rule.Action == "":
			errs = append(errs, field.Required(at.Child("action"), fmt.Sprintf("valid values: %q", actions)))
		case !slices.Contains(actions, rule.Action):
			errs = append(errs, field.NotSupported(at.Child("action"), rule.Action, actions))
		case rule.Action == batchv1.PodFailurePolicyActionFailIndex && s.BackoffLimitPerIndex == nil:
			errs = append(errs, field.Invalid(at.Child("action"), rule.Action, "requires the backoffLimitPerIndex to be set"))
		}
		switch {
		case rule.OnExitCodes != nil && len(rule.OnPodConditions) > 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case rule.OnExitCodes == nil && len(rule.OnPodConditions) == 0:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		case rule.OnExitCodes != nil:
			errs = append(errs, validateExitCodes(rule.OnExitCodes, &s.Template.Spec, at.Child("onExitCodes"))...)
		}
		for j, pattern := range rule.OnPodConditions {
			statuses := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
			if !slices.Contains(statuses, pattern.Status) {
				errs = append(errs, field.NotSupported(at.Child("onPodConditions").Index(j).Child("status"), pattern.Status, statuses))
			}
		}
	}
	return errs
}

func validateExitCodes(r *batchv1.PodFailurePolicyOnExitCodesRequirement, pod *corev1.PodSpec, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	operators := []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	switch {
	case r.Operator == "":
		errs = append(errs, field.Required(path.Child("operator"), fmt.Sprintf("valid values: %q", operators)))
	case !slices.Contains(operators, r.Operator):
		errs = append(errs, field.NotSupported(path.Child("operator"), r.Operator, operators))
	}
	if r.ContainerName != nil && !slices.ContainsFunc(slices.Concat(pod.Containers, pod.InitContainers), func(c corev1.Container) bool { return c.Name == *r.ContainerName }) {
		errs = append(errs, field.Invalid(path.Child("containerName"), *r.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	values := path.Child("values")
	switch {
	case len(r.Values) == 0:
		errs = append(errs, field.Invalid(values, r.Values, "at least one value is required"))
	case len(r.Values) > 255:
		errs = append(errs, field.TooMany(values, len(r.Values), 255))
	}
	for i, value := range r.Values {
		if value == 0 && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			errs = append(errs, field.Invalid(values.Index(i), value, "must not be 0 for the In operator"))
		}
		if slices.Contains(r.Values[:i], value) {
			errs = append(errs, field.Duplicate(values.Index(i), value))
		}
	}
	if !slices.IsSorted(r.Values) {
		errs = append(errs, field.Invalid(values, r.Values, "must be ordered"))
	}
	return errs
}

func validateSuccessPolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	rules := s.SuccessPolicy.Rules
	if len(rules) == 0 {
		return field.ErrorList{field.Required(path, "at least one rules must be specified when the successPolicy is specified")}
	}
	var errs field.ErrorList
	if len(rules) > maxPolicyRules {
		errs = append(errs, field.TooMany(path, len(rules), maxPolicyRules))
	}
	for i, rule := range rules {
		at := path.Index(i)
		if rule.SucceededCount == nil && rule.SucceededIndexes == nil {
			errs = append(errs, field.Required(at, "at least one of succeededCount or succeededIndexes must be specified"))
			continue
		}
		most, what := int32(0), "the number of specified completions"
		if s.Completions != nil {
			most = *s.Completions
		}
		if rule.SucceededIndexes != nil {
			n, err := countIndexes(*rule.SucceededIndexes, most)
			if err != nil {
				errs = append(errs, field.Invalid(at.Child("succeededIndexes"), *rule.SucceededIndexes, fmt.Sprintf("error parsing succeededIndexes: %v", err)))
				continue
			}
			most, what = n, "the number of indexes in the specified succeededIndexes field"
		}
		if count := rule.SucceededCount; count != nil {
			errs = append(errs, notNegative(int64(*count), at.Child("succeededCount"))...)
			if *count > most {
				errs = append(errs, field.Invalid(at.Child("succeededCount"), *count, fmt.Sprintf("must be less than or equal to %d (%s)", most, what)))
			}
		}
	}
	return errs
}

// countIndexes reads ranges such as "0-2,5", in ascending order and below
// completions.
func countIndexes(text string, completions int32) (count int32, err error) {
	if text == "" {
		return 0, nil
	}
	last := int64(-1)
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseInt(from, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", from)
		}
		end, err := strconv.ParseInt(to, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("cannot convert string to integer for index: %q", to)
		}
		switch {
		case end >= int64(completions):
			return 0, fmt.Errorf("too large index: %q", to)
		case first <= last || end < first || (isRange && first == end):
			return 0, fmt.Errorf("non-increasing order, previous: %d, current: %d", last, first)
		}
		last = end
		count += int32(end - first + 1)
	}
	return count, nil
}
