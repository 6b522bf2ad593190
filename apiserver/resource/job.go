package resource

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Job runs pods until a number of them has succeeded.
var Job = &Kind{
	GroupVersion: batchv1.SchemeGroupVersion,
	Kind:         "Job", Plural: "jobs", Singular: "job", Categories: []string{"all"},
	Namespaced: true, Prefix: "/registry/jobs/",
	New:      func() Object { return &batchv1.Job{} },
	NewList:  func() runtime.Object { return &batchv1.JobList{} },
	Default:  on(defaultJob),
	Prepare:  onBoth(prepareJob),
	Warn:     warn(warnJob),
	Validate: check(validateJob),
	Fields: selectable(func(j *batchv1.Job) fields.Set {
		return fields.Set{"status.successful": strconv.Itoa(int(j.Status.Succeeded))}
	}),
	Status: true, Generation: true, OrphanByDefault: true,
	OrphanWarning: "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Status", "string"), column("Completions", "string"), column("Duration", "string"), column("Age", "string"),
		wide("Containers", "string"), wide("Images", "string"), wide("Selector", "string"),
	},
	Row: row(func(j *batchv1.Job, now time.Time) []any {
		names, images := containers(j.Spec.Template.Spec)
		return []any{j.Name, jobState(j), jobCompletions(j), jobDuration(j, now), created(j, now), names, images, selectorText(j.Spec.Selector)}
	}),
}

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		setPtr(&s.Completions, 1)
	}
	setPtr(&s.Parallelism, 1)
	if s.BackoffLimitPerIndex != nil {
		setPtr(&s.BackoffLimit, math.MaxInt32)
	}
	setPtr(&s.BackoffLimit, 6)
	setPtr(&s.CompletionMode, batchv1.NonIndexedCompletion)
	setPtr(&s.Suspend, false)
	setPtr(&s.ManualSelector, false)
	policy := batchv1.TerminatingOrFailed
	if s.PodFailurePolicy != nil {
		policy = batchv1.Failed
	}
	setPtr(&s.PodReplacementPolicy, policy)
	defaultFailurePolicy(s.PodFailurePolicy)
	defaultPodSpec(&s.Template.Spec)
}

// prepareJob makes the selector: the job's own UID, so that no two jobs ever
// count each other's pods.
func prepareJob(j, old *batchv1.Job) {
	if old != nil {
		return
	}
	inherits := len(j.Labels) == 0
	if !*j.Spec.ManualSelector && j.Spec.Selector == nil {
		template := maps.Clone(j.Spec.Template.Labels)
		if template == nil {
			template = map[string]string{}
		}
		uid := string(j.UID)
		template["controller-uid"], template[batchv1.ControllerUidLabel] = uid, uid
		template["job-name"], template[batchv1.JobNameLabel] = j.Name, j.Name
		j.Spec.Template.Labels = template
		j.Spec.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{batchv1.ControllerUidLabel: uid}}
	}
	if inherits {
		j.Labels = maps.Clone(j.Spec.Template.Labels)
	}
}

func validateJob(j, old *batchv1.Job) field.ErrorList {
	errs := append(validateJobNumbers(&j.Spec), validateJobPolicies(&j.Spec)...)
	errs = append(errs, validateJobSelector(j)...)
	t := &j.Spec.Template
	errs = append(errs, validateLabels(t.Labels, specPath.Child("template", "metadata", "labels"))...)
	errs = append(errs, validatePodSpec(&t.Spec, specPath.Child("template", "spec"))...)
	if p := t.Spec.RestartPolicy; p != corev1.RestartPolicyOnFailure && p != corev1.RestartPolicyNever {
		errs = append(errs, field.Required(specPath.Child("template", "spec", "restartPolicy"), fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever)))
	}
	if old != nil {
		errs = append(errs, validateJobChange(j, old)...)
	}
	return errs
}

func validateJobNumbers(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	for _, n := range []struct {
		name  string
		value *int32
	}{
		{"parallelism", s.Parallelism},
		{"completions", s.Completions},
		{"backoffLimit", s.BackoffLimit},
		{"ttlSecondsAfterFinished", s.TTLSecondsAfterFinished},
		{"backoffLimitPerIndex", s.BackoffLimitPerIndex},
		{"maxFailedIndexes", s.MaxFailedIndexes},
	} {
		if n.value != nil {
			errs = append(errs, notNegative(int64(*n.value), specPath.Child(n.name))...)
		}
	}
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, notNegative(*s.ActiveDeadlineSeconds, specPath.Child("activeDeadlineSeconds"))...)
	}
	switch *s.CompletionMode {
	case batchv1.NonIndexedCompletion:
	case batchv1.IndexedCompletion:
		if s.Completions == nil {
			errs = append(errs, field.Required(specPath.Child("completions"), fmt.Sprintf("when completion mode is %s", batchv1.IndexedCompletion)))
		}
	default:
		errs = append(errs, field.NotSupported(specPath.Child("completionMode"), *s.CompletionMode, []batchv1.CompletionMode{batchv1.IndexedCompletion, batchv1.NonIndexedCompletion}))
	}
	return errs
}

func validateJobSelector(j *batchv1.Job) field.ErrorList {
	path := specPath.Child("selector")
	if j.Spec.Selector == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	errs := metav1validation.ValidateLabelSelector(j.Spec.Selector, metav1validation.LabelSelectorValidationOptions{}, path)
	if !*j.Spec.ManualSelector && j.Spec.Selector.MatchLabels[batchv1.ControllerUidLabel] != string(j.UID) {
		errs = append(errs, field.Invalid(path, j.Spec.Selector, "`selector` not auto-generated"))
	}
	if parsed, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !parsed.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(specPath.Child("template", "metadata", "labels"), j.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

func validateJobChange(j, old *batchv1.Job) field.ErrorList {
	errs := apivalidation.ValidateImmutableField(j.Spec.Selector, old.Spec.Selector, specPath.Child("selector"))
	if (!*j.Spec.Suspend || old.Status.StartTime != nil) && !equality.Semantic.DeepEqual(j.Spec.Template, old.Spec.Template) {
		errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.Template, old.Spec.Template, specPath.Child("template"))...)
	}
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.CompletionMode, old.Spec.CompletionMode, specPath.Child("completionMode"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, specPath.Child("podFailurePolicy"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, specPath.Child("backoffLimitPerIndex"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.ManagedBy, old.Spec.ManagedBy, specPath.Child("managedBy"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, specPath.Child("successPolicy"))...)
	elastic := *j.Spec.CompletionMode == batchv1.IndexedCompletion && equality.Semantic.DeepEqual(j.Spec.Completions, j.Spec.Parallelism)
	if !elastic {
		errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.Completions, old.Spec.Completions, specPath.Child("completions"))...)
	}
	return errs
}

func jobHas(j *batchv1.Job, kind batchv1.JobConditionType) bool {
	for _, c := range j.Status.Conditions {
		if c.Type == kind && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func jobState(j *batchv1.Job) string {
	switch {
	case jobHas(j, batchv1.JobComplete):
		return "Complete"
	case jobHas(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case jobHas(j, batchv1.JobSuspended):
		return "Suspended"
	case jobHas(j, batchv1.JobFailureTarget):
		return "FailureTarget"
	case jobHas(j, batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func jobCompletions(j *batchv1.Job) string {
	if j.Spec.Completions != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *j.Spec.Completions)
	}
	if n := count(j.Spec.Parallelism); n > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func jobDuration(j *batchv1.Job, now time.Time) string {
	switch start, end := j.Status.StartTime, j.Status.CompletionTime; {
	case start == nil:
		return ""
	case end == nil:
		return duration.HumanDuration(now.Sub(start.Time))
	default:
		return duration.HumanDuration(end.Sub(start.Time))
	}
}
