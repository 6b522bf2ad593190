package controllers

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

// jobPlan is the next step of a job.
type jobPlan struct {
	status batchv1.JobStatus
	create []int               // completion indexes; -1 in a job without
	before map[int]*corev1.Pod // by index, the last pod which failed, where failures are counted by index
	remove []*corev1.Pod
	free   []*corev1.Pod // ended and noted, or not to be counted: the finalizer may go
	again  time.Duration // until a deadline or the end of a back-off; 0 for none
}

func planJob(job *batchv1.Job, pods []*corev1.Pod, going func(*corev1.Pod) bool, now time.Time) jobPlan {
	t := count(job, pods, going)
	p := jobPlan{status: t.status}
	s := &p.status
	suspended := *job.Spec.Suspend
	if s.StartTime == nil && !suspended {
		s.StartTime = new(metav1.NewTime(now))
	}
	if job.Spec.BackoffLimitPerIndex != nil {
		p.before = lastFailures(job, pods)
	}
	reason, message := jobFailure(job, &t, now)
	enough, why := jobEnough(job, &t)
	if jobCondition(s, batchv1.JobSuccessCriteriaMet) != nil {
		reason = "" // it has succeeded, whatever the pods which are stopped now say
	}
	switch {
	case reason != "" || jobCondition(s, batchv1.JobFailureTarget) != nil:
		if reason != "" {
			setJobCondition(s, batchv1.JobFailureTarget, corev1.ConditionTrue, reason, message, now)
		}
		p.remove = t.activePods
	case enough != "" || jobCondition(s, batchv1.JobSuccessCriteriaMet) != nil:
		if enough != "" {
			setJobCondition(s, batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, enough, why, now)
		}
		p.remove = t.activePods
	case suspended:
		setJobCondition(s, batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended", now)
		s.StartTime = nil
		p.remove = t.activePods
	default:
		if c := jobCondition(s, batchv1.JobSuspended); c != nil && c.Status == corev1.ConditionTrue {
			setJobCondition(s, batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed", now)
			s.StartTime = new(metav1.NewTime(now))
		}
		p.size(job, pods, &t, now)
		t.free = slices.DeleteFunc(t.free, p.heldBack)
	}
	p.free = t.free
	if jobCondition(s, batchv1.JobFailureTarget) == nil {
		p.free = append(p.free, p.remove...) // only a job that fails counts the pods it stops as failed
	}
	p.finish(&t, now)
	s.Active, s.Ready, s.Terminating = t.active-int32(len(p.remove)), new(t.ready), new(t.terminating+int32(len(p.remove)))
	if s.Active == 0 {
		s.Ready = new(int32)
	}
	if d := job.Spec.ActiveDeadlineSeconds; d != nil && s.StartTime != nil {
		p.wake(s.StartTime.Add(time.Duration(*d) * time.Second).Sub(now))
	}
	return p
}

func (p *jobPlan) wake(after time.Duration) {
	if after > 0 && (p.again == 0 || after < p.again) {
		p.again = after
	}
}

// finish says the last word when no pod runs any more and all are counted.
func (p *jobPlan) finish(t *tally, now time.Time) {
	s := &p.status
	list := s.UncountedTerminatedPods
	if t.active > 0 || t.terminating > 0 || len(list.Succeeded)+len(list.Failed) > 0 {
		return
	}
	if c := jobCondition(s, batchv1.JobFailureTarget); c != nil {
		setJobCondition(s, batchv1.JobFailed, corev1.ConditionTrue, c.Reason, c.Message, now)
	} else if c := jobCondition(s, batchv1.JobSuccessCriteriaMet); c != nil {
		setJobCondition(s, batchv1.JobComplete, corev1.ConditionTrue, c.Reason, c.Message, now)
		s.CompletionTime = new(metav1.NewTime(now))
	}
}

// size makes as many pods run as parallelism says and completions still need.
func (p *jobPlan) size(job *batchv1.Job, pods []*corev1.Pod, t *tally, now time.Time) {
	want := *job.Spec.Parallelism
	switch {
	case job.Spec.Completions != nil:
		want = min(want, *job.Spec.Completions-t.succeeded)
	case t.succeeded > 0:
		want = min(want, t.active) // one success is enough; the others may end in peace
	}
	if extra := t.active - want; extra > 0 {
		p.remove = leastUseful(t.activePods, int(extra))
		return
	}
	missing := min(int(want-t.active), maxAtOnce)
	if *job.Spec.PodReplacementPolicy == batchv1.Failed {
		missing -= int(t.terminating) // these have to end first
	}
	if missing <= 0 {
		return
	}
	if wait := jobBackoff(pods, now); wait > 0 && p.before == nil {
		p.wake(wait)
		return
	}
	if !indexed(job) {
		for range missing {
			p.create = append(p.create, -1)
		}
		return
	}
	p.create = p.freeIndexes(job, pods, t, missing, now)
}

// leastUseful: pods which do not run go before those that do, younger ones before older ones.
func leastUseful(pods []*corev1.Pod, n int) []*corev1.Pod {
	sorted := slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int {
		return cmp.Or(falseFirst(podReady(a), podReady(b)), b.CreationTimestamp.Compare(a.CreationTimestamp.Time), cmp.Compare(a.UID, b.UID))
	})
	return sorted[:n]
}

// jobEnough tells why a job has succeeded, or nothing.
func jobEnough(job *batchv1.Job, t *tally) (reason, message string) {
	if reason, message := successPolicyMet(job, t.indexes); reason != "" {
		return reason, message
	}
	enough := job.Spec.Completions == nil && t.succeeded > 0 && t.active == 0 ||
		job.Spec.Completions != nil && t.succeeded >= *job.Spec.Completions
	if enough {
		return batchv1.JobReasonCompletionsReached, "Reached expected number of succeeded pods"
	}
	return "", ""
}

// jobFailure tells why a job has failed, or nothing.
func jobFailure(job *batchv1.Job, t *tally, now time.Time) (reason, message string) {
	if t.failJob != "" {
		return batchv1.JobReasonPodFailurePolicy, t.failJob
	}
	limit := *job.Spec.BackoffLimit
	if t.failed > limit || (job.Spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure && restartsBeyond(t.activePods, limit)) {
		return batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit"
	}
	if d := job.Spec.ActiveDeadlineSeconds; d != nil && t.status.StartTime != nil && !*job.Spec.Suspend {
		if now.Sub(t.status.StartTime.Time) >= time.Duration(*d)*time.Second {
			return batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline"
		}
	}
	return indexFailure(job, t)
}

// restartsBeyond: with restartPolicy OnFailure the kubelet starts containers again in the same pod, so
// restarts are counted in place of failed pods.
func restartsBeyond(pods []*corev1.Pod, limit int32) bool {
	var total int32
	for _, pod := range pods {
		for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for _, status := range list {
				total += status.RestartCount
			}
		}
	}
	if limit == 0 {
		return total > 0
	}
	return total >= limit
}

// The pauses before a failed pod is replaced: 10 s, 20 s, 40 s, … 10 min, since the last failure.
const (
	firstJobBackoff = 10 * time.Second
	lastJobBackoff  = 10 * time.Minute
)

// jobBackoff is how long to wait still. Failures count since the last success.
func jobBackoff(pods []*corev1.Pod, now time.Time) time.Duration {
	var success, last time.Time
	var failures []time.Time
	for _, pod := range pods {
		at := podEnd(pod)
		switch pod.Status.Phase {
		case corev1.PodSucceeded:
			if at.After(success) {
				success = at
			}
		case corev1.PodFailed:
			failures = append(failures, at)
		}
	}
	n := 0
	for _, at := range failures {
		if at.After(success) {
			n++
			if at.After(last) {
				last = at
			}
		}
	}
	if n == 0 {
		return 0
	}
	return last.Add(jobPause(n)).Sub(now)
}

// jobPause is the pause after n failures.
func jobPause(n int) time.Duration {
	if n > 7 {
		return lastJobBackoff
	}
	return min(firstJobBackoff<<(n-1), lastJobBackoff)
}

// podEnd is when the last container of a pod ended.
func podEnd(pod *corev1.Pod) time.Time {
	end := pod.CreationTimestamp.Time
	for _, status := range pod.Status.ContainerStatuses {
		if t := status.State.Terminated; t != nil && t.FinishedAt.After(end) {
			end = t.FinishedAt.Time
		}
	}
	return end
}

// jobPod is a pod of the job. In an indexed job it knows its index from an annotation, a label, its host
// name and the variable JOB_COMPLETION_INDEX. before is the pod which failed at it last, if that counts.
func jobPod(job *batchv1.Job, index int, before *corev1.Pod) *corev1.Pod {
	template := job.Spec.Template.DeepCopy()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		GenerateName: job.Name + "-", Labels: template.Labels, Annotations: template.Annotations,
		Finalizers: append(slices.Clone(template.Finalizers), batchv1.JobTrackingFinalizer),
	}, Spec: template.Spec}
	if index < 0 {
		return pod
	}
	text := strconv.Itoa(index)
	pod.GenerateName = ""
	pod.Name = job.Name + "-" + text + "-" + rand.String(5)
	metav1.SetMetaDataAnnotation(&pod.ObjectMeta, batchv1.JobCompletionIndexAnnotation, text)
	metav1.SetMetaDataLabel(&pod.ObjectMeta, batchv1.JobCompletionIndexAnnotation, text)
	if job.Spec.BackoffLimitPerIndex != nil {
		noteFailures(job, pod, before)
	}
	if pod.Spec.Hostname == "" {
		pod.Spec.Hostname = job.Name + "-" + text
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			list[i].Env = append(list[i].Env, corev1.EnvVar{Name: "JOB_COMPLETION_INDEX", ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels['" + batchv1.JobCompletionIndexAnnotation + "']"},
			}})
		}
	}
	return pod
}

// jobIndex is which part of an indexed job a pod works on.
func jobIndex(pod *corev1.Pod) (int, bool) {
	n, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	return n, err == nil && n >= 0
}

func jobFinished(job *batchv1.Job) bool {
	for _, c := range job.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return true
		}
	}
	return false
}

func jobCondition(s *batchv1.JobStatus, kind batchv1.JobConditionType) *batchv1.JobCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

func setJobCondition(s *batchv1.JobStatus, kind batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) {
	next := batchv1.JobCondition{Type: kind, Status: status, Reason: reason, Message: message, LastProbeTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now)}
	switch have := jobCondition(s, kind); {
	case have == nil:
		s.Conditions = append(s.Conditions, next)
	case have.Status != status:
		*have = next
	}
}
