package controllers

import (
	"fmt"
	"slices"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// world runs a job's plan against pods as the API would, one step at a time.
type world struct {
	job  *batchv1.Job
	pods []*corev1.Pod
	made int
	now  time.Time
}

func newWorld(completions, parallelism, backoffLimit int32, mode batchv1.CompletionMode) *world {
	job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "pi"}, Spec: batchv1.JobSpec{
		Completions: &completions, Parallelism: &parallelism, BackoffLimit: &backoffLimit, CompletionMode: &mode,
		Suspend: new(bool), PodReplacementPolicy: new(batchv1.TerminatingOrFailed),
	}}
	return &world{job: job, now: time.Unix(1_000_000, 0)}
}

// step plans once and carries the plan out, up to the given number of its three parts: a controller may
// die after any of them.
func (w *world) step(parts int) {
	plan := planJob(w.job, w.pods, never, w.now)
	w.job.Status = plan.status
	if parts < 2 {
		return
	}
	for _, pod := range plan.free {
		pod.Finalizers = nil
	}
	if parts < 3 {
		return
	}
	for _, index := range plan.create {
		pod := jobPod(w.job, index, plan.before[index])
		w.made++
		pod.UID, pod.Status.Phase = types.UID(fmt.Sprint(w.made)), corev1.PodRunning
		pod.Name = fmt.Sprint("pi-", w.made)
		w.pods = append(w.pods, pod)
	}
	w.pods = slices.DeleteFunc(w.pods, func(pod *corev1.Pod) bool { return slices.Contains(plan.remove, pod) })
}

func (w *world) end(phase corev1.PodPhase) {
	for _, pod := range w.pods {
		if pod.Status.Phase == corev1.PodRunning {
			pod.Status.Phase = phase
			return
		}
	}
}

// Whatever part of a step is lost, and whenever ended pods vanish, every success counts once.
func TestJobCountsEveryPodOnce(t *testing.T) {
	for seed := range 50 {
		w := newWorld(6, 2, 6, batchv1.NonIndexedCompletion)
		for i := range 200 {
			if i%4 == 0 {
				w.end(corev1.PodSucceeded)
			}
			w.step(1 + (seed+i*7)%3)
			if (seed+i)%5 == 0 { // the garbage collector takes what holds no finalizer
				w.pods = slices.DeleteFunc(w.pods, func(pod *corev1.Pod) bool { return podFinished(pod) && !tracked(pod) })
			}
			if jobFinished(w.job) {
				break
			}
		}
		if !jobFinished(w.job) || w.job.Status.Succeeded != 6 || w.made != 6 {
			t.Fatalf("seed %d: finished %v, succeeded %d, pods made %d; want 6 and 6", seed, jobFinished(w.job), w.job.Status.Succeeded, w.made)
		}
	}
}

func TestJobFailsAtItsLimit(t *testing.T) {
	w := newWorld(1, 1, 2, batchv1.NonIndexedCompletion)
	for range 40 {
		w.end(corev1.PodFailed)
		w.step(3)
		w.now = w.now.Add(10 * time.Minute)
	}
	c := jobCondition(&w.job.Status, batchv1.JobFailed)
	if c == nil || c.Reason != batchv1.JobReasonBackoffLimitExceeded || w.job.Status.Failed != 3 || w.made != 3 {
		t.Errorf("status %+v after %d pods, want 3 failed", w.job.Status, w.made)
	}
}

func TestIndexedJob(t *testing.T) {
	w := newWorld(3, 2, 6, batchv1.IndexedCompletion)
	w.step(3)
	if a, b := w.pods[0].Annotations[batchv1.JobCompletionIndexAnnotation], w.pods[1].Annotations[batchv1.JobCompletionIndexAnnotation]; a != "0" || b != "1" {
		t.Errorf("first indexes %s and %s", a, b)
	}
	for range 30 {
		w.end(corev1.PodSucceeded)
		w.step(3)
	}
	if s := w.job.Status; s.CompletedIndexes != "0-2" || s.Succeeded != 3 || !jobFinished(w.job) {
		t.Errorf("status %+v", s)
	}
}

func TestJobDeadline(t *testing.T) {
	w := newWorld(1, 1, 6, batchv1.NonIndexedCompletion)
	w.job.Spec.ActiveDeadlineSeconds = new(int64(5))
	w.step(3)
	if again := planJob(w.job, w.pods, never, w.now).again; again != 5*time.Second {
		t.Errorf("looks again after %v, want 5s", again)
	}
	w.now = w.now.Add(5 * time.Second)
	w.step(3)
	w.step(3)
	if c := jobCondition(&w.job.Status, batchv1.JobFailed); c == nil || c.Reason != batchv1.JobReasonDeadlineExceeded || len(w.pods) != 0 {
		t.Errorf("condition %+v, %d pods left", c, len(w.pods))
	}
}

func TestJobBackoff(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	pod := func(phase corev1.PodPhase, ago time.Duration) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.NewTime(now.Add(-ago))}, Status: corev1.PodStatus{Phase: phase}}
	}
	for _, c := range []struct {
		name string
		pods []*corev1.Pod
		want time.Duration
	}{
		{"nothing failed", []*corev1.Pod{pod(corev1.PodRunning, time.Second)}, 0},
		{"one failure", []*corev1.Pod{pod(corev1.PodFailed, 4*time.Second)}, 6 * time.Second},
		{"three failures", []*corev1.Pod{pod(corev1.PodFailed, 60*time.Second), pod(corev1.PodFailed, 40*time.Second), pod(corev1.PodFailed, 0)}, 40 * time.Second},
		{"a success in between", []*corev1.Pod{pod(corev1.PodFailed, 60*time.Second), pod(corev1.PodSucceeded, 10*time.Second), pod(corev1.PodFailed, 0)}, 10 * time.Second},
	} {
		if got := jobBackoff(c.pods, now); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestIndexSet(t *testing.T) {
	for _, text := range []string{"", "0", "0,1", "0-2", "0-2,4", "1,3-5,7,8"} {
		if got := parseIndexes(text).String(); got != text {
			t.Errorf("%q becomes %q", text, got)
		}
	}
}
