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
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation"
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
	Warn:     warnBoth(warnJob),
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
	inherits := len(j.Labels) == 0
	if old != nil {
		if inherits {
			j.Labels = maps.Clone(j.Spec.Template.Labels)
		}
		return
	}
	if !*j.Spec.ManualSelector {
		template := generatedLabels(j)
		maps.Copy(template, j.Spec.Template.Labels) // what the user has set is looked at later
		j.Spec.Template.Labels = template
		setPtr(&j.Spec.Selector, metav1.LabelSelector{})
		selected := map[string]string{batchv1.ControllerUidLabel: string(j.UID)}
		maps.Copy(selected, j.Spec.Selector.MatchLabels)
		j.Spec.Selector.MatchLabels = selected
	}
	if inherits {
		j.Labels = maps.Clone(j.Spec.Template.Labels)
	}
}

// generatedLabels are on a job's pods; the two without a domain are of old.
func generatedLabels(j *batchv1.Job) map[string]string {
	uid := string(j.UID)
	return map[string]string{"controller-uid": uid, batchv1.ControllerUidLabel: uid, "job-name": j.Name, batchv1.JobNameLabel: j.Name}
}

// validateJob tells the mistakes of a changed job twice, as upstream does: once
// as a job's and once as a change's.
func validateJob(j, old *batchv1.Job) field.ErrorList {
	errs := append(validateGeneratedSelector(j), validateJobSpec(j)...)
	if c := j.Spec.Completions; *j.Spec.CompletionMode == batchv1.IndexedCompletion && c != nil && *c > 0 {
		// The pods' hostnames are the job's name and an index.
		if last := fmt.Sprintf("%s-%d", j.Name, *c-1); len(validation.IsDNS1123Label(last)) > 0 {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+last))
		}
	}
	if old != nil {
		errs = append(errs, validateJobSpec(j)...)
		errs = append(errs, validateJobChange(j, old)...)
	}
	return errs
}

func validateJobSpec(j *batchv1.Job) field.ErrorList {
	errs := append(validateJobNumbers(&j.Spec), validateJobPolicies(&j.Spec)...)
	errs = append(errs, validatePodTemplate(&j.Spec.Template)...)
	errs = append(errs, validateJobRestart(&j.Spec, templatePath.Child("spec", "restartPolicy"))...)
	path := specPath.Child("selector")
	if j.Spec.Selector == nil {
		errs = append(errs, field.Required(path, ""))
	} else {
		errs = append(errs, validateSelector(j.Spec.Selector, path)...)
	}
	if parsed, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !parsed.Matches(labels.Set(j.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(templatePath.Child("metadata", "labels"), j.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

func validateJobRestart(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	const never, onFailure = corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure
	switch p := s.Template.Spec.RestartPolicy; {
	case p == corev1.RestartPolicyAlways || p == "":
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q, %q", onFailure, never))}
	case p != onFailure && p != never:
		return field.ErrorList{field.NotSupported(path, p, []corev1.RestartPolicy{onFailure, never})}
	case p != never && s.PodFailurePolicy != nil:
		return field.ErrorList{field.Invalid(path, p, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", never))}
	}
	return nil
}

func validateJobNumbers(s *batchv1.JobSpec) field.ErrorList {
	var errs field.ErrorList
	number := func(name string, value *int32) {
		if value != nil {
			errs = append(errs, notNegative(int64(*value), specPath.Child(name))...)
		}
	}
	number("parallelism", s.Parallelism)
	number("completions", s.Completions)
	if s.ActiveDeadlineSeconds != nil {
		errs = append(errs, notNegative(*s.ActiveDeadlineSeconds, specPath.Child("activeDeadlineSeconds"))...)
	}
	number("backoffLimit", s.BackoffLimit)
	number("ttlSecondsAfterFinished", s.TTLSecondsAfterFinished)
	number("backoffLimitPerIndex", s.BackoffLimitPerIndex)
	number("maxFailedIndexes", s.MaxFailedIndexes)
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(specPath.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if by := s.ManagedBy; by != nil {
		errs = append(errs, validation.IsDomainPrefixedPath(specPath.Child("managedBy"), *by)...)
		if len(*by) > 63 {
			errs = append(errs, field.TooLong(specPath.Child("managedBy"), "", 63))
		}
	}
	switch *s.CompletionMode {
	case batchv1.NonIndexedCompletion:
		return append(errs, validateUnindexed(s)...)
	case batchv1.IndexedCompletion:
		return append(errs, validateIndexed(s)...)
	}
	return append(errs, field.NotSupported(specPath.Child("completionMode"), *s.CompletionMode, []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}))
}

// validateGeneratedSelector: the selector is the job's UID, unless the user says
// that he knows better.
func validateGeneratedSelector(j *batchv1.Job) field.ErrorList {
	if *j.Spec.ManualSelector || j.Spec.Selector == nil {
		return nil
	}
	var errs field.ErrorList
	own := generatedLabels(j)
	at := templatePath.Child("metadata", "labels")
	for _, key := range []string{"controller-uid", "job-name", batchv1.ControllerUidLabel, batchv1.JobNameLabel} {
		switch have, ok := j.Spec.Template.Labels[key]; {
		case !ok:
			errs = append(errs, field.Required(at.Key(key), fmt.Sprintf("must be '%s'", own[key])))
		case have != own[key]:
			errs = append(errs, field.Invalid(at.Key(key), j.Spec.Template.Labels, fmt.Sprintf("must be '%s'", own[key])))
		}
	}
	if parsed, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !parsed.Matches(labels.Set(own)) {
		errs = append(errs, field.Invalid(specPath.Child("selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func validateJobChange(j, old *batchv1.Job) field.ErrorList {
	errs := validateCompletionsChange(&j.Spec, &old.Spec, specPath.Child("completions"))
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.Selector, old.Spec.Selector, specPath.Child("selector"))...)
	errs = append(errs, validateJobTemplateChange(j, old)...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.CompletionMode, old.Spec.CompletionMode, specPath.Child("completionMode"))...)
	errs = append(errs, immutable(j.Spec.PodFailurePolicy, old.Spec.PodFailurePolicy, specPath.Child("podFailurePolicy"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.BackoffLimitPerIndex, old.Spec.BackoffLimitPerIndex, specPath.Child("backoffLimitPerIndex"))...)
	errs = append(errs, apivalidation.ValidateImmutableField(j.Spec.ManagedBy, old.Spec.ManagedBy, specPath.Child("managedBy"))...)
	return append(errs, immutable(j.Spec.SuccessPolicy, old.Spec.SuccessPolicy, specPath.Child("successPolicy"))...)
}

// immutable is apimachinery's ValidateImmutableField, and shows the value as
// upstream's internal type has it.
func immutable(now, old any, path *field.Path) field.ErrorList {
	if equality.Semantic.DeepEqual(now, old) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, internalForm{now}, apivalidation.FieldImmutableErrorMsg)}
}

// validateCompletionsChange: an indexed job may grow and shrink, pods and
// completions together.
func validateCompletionsChange(s, old *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if *s.CompletionMode != batchv1.IndexedCompletion {
		return apivalidation.ValidateImmutableField(s.Completions, old.Completions, path)
	}
	if s.Completions == nil || *s.Completions == *s.Parallelism || equality.Semantic.DeepEqual(s.Completions, old.Completions) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *s.Completions, "can only be modified in tandem with spec.parallelism")}
}

// validateJobTemplateChange: while a suspended job has no pods, it may be
// directed to other nodes (as Kueue does) and be given other resources.
func validateJobTemplateChange(j, old *batchv1.Job) field.ErrorList {
	started := old.Status.StartTime != nil && !jobHas(old, batchv1.JobSuspended)
	if !*old.Spec.Suspend || started || old.Status.Active > 0 {
		return immutable(j.Spec.Template, old.Spec.Template, templatePath)
	}
	now, before := &j.Spec.Template.Spec, old.Spec.Template.Spec.DeepCopy()
	before.NodeSelector, before.Tolerations, before.SchedulingGates = now.NodeSelector, now.Tolerations, now.SchedulingGates
	var directed *corev1.NodeAffinity
	if now.Affinity != nil {
		directed = now.Affinity.NodeAffinity
	}
	if before.Affinity == nil {
		before.Affinity = &corev1.Affinity{}
	}
	before.Affinity.NodeAffinity = directed
	if now.Affinity == nil && *before.Affinity == (corev1.Affinity{}) {
		before.Affinity = nil
	}
	sameResources(now.Containers, before.Containers)
	sameResources(now.InitContainers, before.InitContainers)
	return immutable(*now, *before, specPath.Child("template.spec"))
}

func sameResources(now, before []corev1.Container) {
	for i := range before {
		if len(now) == len(before) && now[i].Name == before[i].Name {
			before[i].Resources = now[i].Resources
		}
	}
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
