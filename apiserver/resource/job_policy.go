package resource

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
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
// differently.
func validateJobPolicies(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	replacement := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if s.PodFailurePolicy != nil {
		replacement = replacement[:1]
		errs = append(errs, validateFailurePolicy(s, specPath.Child("podFailurePolicy", "rules"))...)
	}
	if path := specPath.Child("successPolicy"); s.SuccessPolicy != nil {
		if *s.CompletionMode != batchv1.IndexedCompletion {
			errs = append(errs, field.Invalid(path, internalForm{s.SuccessPolicy}, "requires indexed completion mode"))
		} else {
			errs = append(errs, validateSuccessPolicy(s, path.Child("rules"))...)
		}
	}
	return append(errs, oneOf(s.PodReplacementPolicy, specPath.Child("podReplacementPolicy"), replacement...)...)
}

// validateUnindexed: without indexes nothing counts per index.
func validateUnindexed(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	if n := s.BackoffLimitPerIndex; n != nil {
		errs = append(errs, field.Invalid(specPath.Child("backoffLimitPerIndex"), *n, "requires indexed completion mode"))
	}
	if n := s.MaxFailedIndexes; n != nil {
		errs = append(errs, field.Invalid(specPath.Child("maxFailedIndexes"), *n, "requires indexed completion mode"))
	}
	return errs
}

// validateIndexed keeps the lists of indexes in the status short: beyond 100000
// completions, fewer pods run and fewer fail at a time.
func validateIndexed(s *batchv1.JobSpec) field.ErrorList {
	const many, few = 100_000, 10_000
	var errs field.ErrorList
	most, parallel := specPath.Child("maxFailedIndexes"), specPath.Child("parallelism")
	if s.Completions == nil {
		errs = append(errs, field.Required(specPath.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
	}
	if *s.Parallelism > many {
		errs = append(errs, field.Invalid(parallel, *s.Parallelism, fmt.Sprintf("must be less than or equal to %d when completion mode is %s", many, batchv1.IndexedCompletion)))
	}
	failed := s.MaxFailedIndexes
	if failed != nil && s.Completions != nil && *failed > *s.Completions {
		errs = append(errs, field.Invalid(most, *failed, "must be less than or equal to completions"))
	}
	if failed != nil && *failed > many {
		errs = append(errs, field.Invalid(most, *failed, fmt.Sprintf("must be less than or equal to %d", many)))
	}
	if s.Completions == nil || *s.Completions <= many || s.BackoffLimitPerIndex == nil {
		return errs
	}
	tooMany := fmt.Sprintf("must be less than or equal to %d when completions are above %d and used with backoff limit per index", few, many)
	if failed == nil {
		errs = append(errs, field.Required(most, fmt.Sprintf("must be specified when completions is above %d", many)))
	}
	if *s.Parallelism > few {
		errs = append(errs, field.Invalid(parallel, *s.Parallelism, tooMany))
	}
	if failed != nil && *failed > few {
		errs = append(errs, field.Invalid(most, *failed, tooMany))
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
		if rule.OnExitCodes != nil {
			errs = append(errs, validateExitCodes(rule.OnExitCodes, &s.Template.Spec, at.Child("onExitCodes"))...)
		}
		errs = append(errs, validatePolicyConditions(rule.OnPodConditions, at.Child("onPodConditions"))...)
		switch codes, conditions := rule.OnExitCodes != nil, len(rule.OnPodConditions) > 0; {
		case codes && conditions:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
		case !codes && !conditions:
			errs = append(errs, field.Invalid(at, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
		}
	}
	return errs
}

func validatePolicyConditions(patterns []batchv1.PodFailurePolicyOnPodConditionsPattern, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if n := len(patterns); n > maxPolicyRules {
		errs = append(errs, field.TooMany(path, n, maxPolicyRules))
	}
	for i, pattern := range patterns {
		at := path.Index(i)
		errs = append(errs, each(at.Child("type"), string(pattern.Type), validation.IsQualifiedName(string(pattern.Type)))...)
		errs = append(errs, oneOf(&pattern.Status, at.Child("status"), corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown)...)
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
		}
		completions, indexes := int32(0), int32(0)
		if s.Completions != nil {
			completions = *s.Completions
		}
		if rule.SucceededIndexes != nil {
			var err error
			if indexes, err = countIndexes(*rule.SucceededIndexes, completions); err != nil {
				errs = append(errs, field.Invalid(at.Child("succeededIndexes"), *rule.SucceededIndexes, fmt.Sprintf("error parsing succeededIndexes: %v", err)))
			}
		}
		if count, at := rule.SucceededCount, at.Child("succeededCount"); count != nil {
			errs = append(errs, notNegative(int64(*count), at)...)
			if *count > completions {
				errs = append(errs, field.Invalid(at, *count, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
			}
			if rule.SucceededIndexes != nil && *count > indexes {
				errs = append(errs, field.Invalid(at, *count, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", indexes)))
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
