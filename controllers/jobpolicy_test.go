package controllers

import (
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// exit ends the pod which works on an index, or on any when index is -1.
func (w *world) exit(index int, code int32) {
	for _, pod := range w.pods {
		if n, ok := jobIndex(pod); pod.Status.Phase != corev1.PodRunning || (index >= 0 && (!ok || n != index)) {
			continue
		}
		pod.Status.Phase = corev1.PodSucceeded
		if code != 0 {
			pod.Status.Phase = corev1.PodFailed
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, FinishedAt: metav1.NewTime(w.now)}}}}
		return
	}
}

// settle lets the controller work until nothing changes, and time pass as far as it waits for it.
func (w *world) settle() {
	for range 6 {
		w.step(3)
		w.now = w.now.Add(10 * time.Minute)
	}
}

func (w *world) reason() string {
	for _, c := range w.job.Status.Conditions {
		if c.Type == batchv1.JobFailed || c.Type == batchv1.JobComplete {
			return string(c.Type) + " " + c.Reason + ": " + c.Message
		}
	}
	return ""
}

func failurePolicy(rules ...batchv1.PodFailurePolicyRule) *batchv1.PodFailurePolicy {
	return &batchv1.PodFailurePolicy{Rules: rules}
}

func onExit(action batchv1.PodFailurePolicyAction, codes ...int32) batchv1.PodFailurePolicyRule {
	return batchv1.PodFailurePolicyRule{Action: action, OnExitCodes: &batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: batchv1.PodFailurePolicyOnExitCodesOpIn, Values: codes}}
}

func TestPodFailurePolicy(t *testing.T) {
	evicted := batchv1.PodFailurePolicyRule{Action: batchv1.PodFailurePolicyActionIgnore, OnPodConditions: []batchv1.PodFailurePolicyOnPodConditionsPattern{
		{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue},
	}}
	w := newWorld(1, 1, 1, batchv1.NonIndexedCompletion)
	w.job.Spec.PodFailurePolicy = failurePolicy(onExit(batchv1.PodFailurePolicyActionFailJob, 42), evicted)
	w.step(3)
	// An eviction does not count, however often.
	for range 3 {
		w.pods[len(w.pods)-1].Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue}}
		w.exit(-1, 137)
		w.settle()
	}
	if s := w.job.Status; s.Failed != 0 || s.Active != 1 || w.made != 4 {
		t.Errorf("after three evictions: %d failed, %d active, %d made; want 0, 1 and 4", s.Failed, s.Active, w.made)
	}
	// Exit code 42 ends the job at once, although one failure would be allowed.
	w.pods[len(w.pods)-1].Namespace, w.pods[len(w.pods)-1].Name = "default", "pi-x"
	w.exit(-1, 42)
	w.settle()
	if got, want := w.reason(), "Failed PodFailurePolicy: Container c for pod default/pi-x failed with exit code 42 matching FailJob rule at index 0"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if w.job.Status.Failed != 1 {
		t.Errorf("%d failed, want 1", w.job.Status.Failed)
	}
}

func TestExitCodesOfAPolicy(t *testing.T) {
	ended := func(name string, code int32) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{
			{Name: name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code}}},
		}}}
	}
	notIn := batchv1.PodFailurePolicyOnExitCodesOpNotIn
	in := batchv1.PodFailurePolicyOnExitCodesOpIn
	for _, c := range []struct {
		rule    batchv1.PodFailurePolicyOnExitCodesRequirement
		pod     *corev1.Pod
		matches bool
	}{
		{batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: in, Values: []int32{1, 2}}, ended("c", 2), true},
		{batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: in, Values: []int32{1, 2}}, ended("c", 3), false},
		{batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: notIn, Values: []int32{1, 2}}, ended("c", 3), true},
		{batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: notIn, Values: []int32{1, 2}}, ended("c", 0), false},
		{batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: in, Values: []int32{2}, ContainerName: new("d")}, ended("c", 2), false},
		{batchv1.PodFailurePolicyOnExitCodesRequirement{Operator: in, Values: []int32{2}}, &corev1.Pod{}, false},
	} {
		if got := exitedWith(c.pod, &c.rule) != nil; got != c.matches {
			t.Errorf("%+v with exit code of %+v: %t, want %t", c.rule, c.pod.Status, got, c.matches)
		}
	}
}

// TestBackoffLimitPerIndex: index 1 fails twice and is given up, the others go on, and the job has failed in
// the end, all counted.
func TestBackoffLimitPerIndex(t *testing.T) {
	w := newWorld(3, 3, 1<<30, batchv1.IndexedCompletion)
	w.job.Spec.BackoffLimitPerIndex = new(int32(1))
	w.step(3)
	w.exit(1, 1)
	w.step(3)
	failed := w.pods[1]
	if !tracked(failed) {
		t.Error("the failed pod was let go before its successor knew")
	}
	if again := planJob(w.job, w.pods, never, w.now).again; again <= 0 || again > 10*time.Second {
		t.Errorf("index 1 is tried again after %v, want up to 10s", again)
	}
	w.settle()
	if tracked(failed) || w.made != 4 || w.pods[3].Annotations[batchv1.JobIndexFailureCountAnnotation] != "1" {
		t.Errorf("%d made; the successor says %v", w.made, w.pods[len(w.pods)-1].Annotations)
	}
	w.exit(1, 1)
	w.settle()
	if s := w.job.Status; s.FailedIndexes == nil || *s.FailedIndexes != "1" || w.reason() != "" || w.made != 4 {
		t.Errorf("after the second failure: %+v, %d made", s, w.made)
	}
	w.exit(0, 0)
	w.exit(2, 0)
	w.settle()
	if s := w.job.Status; w.reason() != "Failed FailedIndexes: Job has failed indexes" || s.CompletedIndexes != "0,2" || s.Failed != 2 || s.Succeeded != 2 {
		t.Errorf("%s, status %+v", w.reason(), s)
	}
}

func TestIndexesAreGivenUp(t *testing.T) {
	w := newWorld(4, 4, 1<<30, batchv1.IndexedCompletion)
	w.job.Spec.BackoffLimitPerIndex, w.job.Spec.MaxFailedIndexes = new(int32(3)), new(int32(1))
	w.job.Spec.PodFailurePolicy = failurePolicy(onExit(batchv1.PodFailurePolicyActionFailIndex, 42))
	w.step(3)
	w.exit(0, 42) // given up at the first failure
	w.settle()
	if s := w.job.Status; *s.FailedIndexes != "0" || w.made != 4 {
		t.Errorf("status %+v, %d made", s, w.made)
	}
	w.exit(1, 42)
	w.settle()
	if want := "Failed MaxFailedIndexesExceeded: Job has exceeded the specified maximal number of failed indexes"; w.reason() != want {
		t.Errorf("got  %s\nwant %s", w.reason(), want)
	}
}

func TestSuccessPolicy(t *testing.T) {
	for _, c := range []struct {
		name string
		rule batchv1.SuccessPolicyRule
		done []int
		want string
	}{
		{"these indexes", batchv1.SuccessPolicyRule{SucceededIndexes: new("0,2-3")}, []int{0, 2, 3}, "Complete SuccessPolicy: Matched rules at index 0"},
		{"not all of them", batchv1.SuccessPolicyRule{SucceededIndexes: new("0,2-3")}, []int{0, 1, 2}, ""},
		{"two of these", batchv1.SuccessPolicyRule{SucceededIndexes: new("0-3"), SucceededCount: new(int32(2))}, []int{1, 3}, "Complete SuccessPolicy: Matched rules at index 0"},
		{"any two", batchv1.SuccessPolicyRule{SucceededCount: new(int32(2))}, []int{3, 4}, "Complete SuccessPolicy: Matched rules at index 0"},
	} {
		w := newWorld(5, 5, 6, batchv1.IndexedCompletion)
		w.job.Spec.SuccessPolicy = &batchv1.SuccessPolicy{Rules: []batchv1.SuccessPolicyRule{c.rule}}
		w.step(3)
		for _, index := range c.done {
			w.exit(index, 0)
		}
		w.settle()
		if w.reason() != c.want {
			t.Errorf("%s: %q, want %q", c.name, w.reason(), c.want)
		}
		if running := w.job.Status.Active; (c.want == "") != (running > 0) {
			t.Errorf("%s: %d pods still run", c.name, running)
		}
	}
}

// TestOnlyFailedPodsAreReplaced: with podReplacementPolicy Failed a pod which is on its way out is waited for.
func TestOnlyFailedPodsAreReplaced(t *testing.T) {
	w := newWorld(1, 1, 6, batchv1.NonIndexedCompletion)
	w.job.Spec.PodReplacementPolicy = new(batchv1.Failed)
	w.step(3)
	leaving := func(pod *corev1.Pod) bool { return pod == w.pods[0] }
	plan := planJob(w.job, w.pods, leaving, w.now)
	if len(plan.create) != 0 || len(plan.free) != 0 || *plan.status.Terminating != 1 || plan.status.Failed != 0 {
		t.Errorf("while it ends: %d created, %d freed, status %+v", len(plan.create), len(plan.free), plan.status)
	}
	w.job.Spec.PodReplacementPolicy = new(batchv1.TerminatingOrFailed)
	if plan := planJob(w.job, w.pods, leaving, w.now); len(plan.create) != 1 && plan.again == 0 {
		t.Errorf("the usual policy does not replace it: %+v", plan)
	}
}
