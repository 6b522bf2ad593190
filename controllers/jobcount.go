package controllers

import (
	"context"
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Every pod of a job counts exactly once, whatever dies in between (KEP-2307). Each pod has a finalizer,
// so that it cannot vanish before it is counted:
//
//  1. The pod has ended. Its UID goes into status.uncountedTerminatedPods. (written)
//  2. The finalizer is taken off the pod; now the pod may vanish.
//  3. In one write, the UID leaves the list and status.succeeded or status.failed grows by one.
//
// After a crash between any two steps, the list and the finalizers together tell where to go on.

// tally is the outcome of counting.
type tally struct {
	active, ready, terminating, succeeded, failed int32 // succeeded and failed include what is in the list
	indexes, failedIndexes                        indexSet
	free                                          []*corev1.Pod // to be let go
	status                                        batchv1.JobStatus
	activePods                                    []*corev1.Pod
	failJob                                       string // why the podFailurePolicy says that the job has failed
}

func tracked(pod *corev1.Pod) bool {
	return slices.Contains(pod.Finalizers, batchv1.JobTrackingFinalizer)
}

// count brings the job's status one step further.
func count(job *batchv1.Job, pods []*corev1.Pod, going func(*corev1.Pod) bool) tally {
	t := tally{status: *job.Status.DeepCopy()}
	if t.status.UncountedTerminatedPods == nil {
		t.status.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	list := t.status.UncountedTerminatedPods
	t.indexes, t.failedIndexes = parseIndexes(job.Status.CompletedIndexes), indexSet{}
	if job.Status.FailedIndexes != nil {
		t.failedIndexes = parseIndexes(*job.Status.FailedIndexes)
	}
	tracking := map[types.UID]bool{}
	for _, pod := range pods {
		tracking[pod.UID] = tracked(pod)
	}
	t.settle(&list.Succeeded, &t.status.Succeeded, tracking)
	t.settle(&list.Failed, &t.status.Failed, tracking)
	for _, pod := range pods {
		t.countPod(job, pod, going(pod))
	}
	if indexed(job) {
		t.status.CompletedIndexes, t.status.Succeeded = t.indexes.String(), int32(len(t.indexes))
	}
	if job.Spec.BackoffLimitPerIndex != nil {
		t.status.FailedIndexes = new(t.failedIndexes.String())
	}
	t.succeeded = t.status.Succeeded + int32(len(list.Succeeded))
	t.failed = t.status.Failed + int32(len(list.Failed))
	return t
}

// countPod is step 1 for one pod. A pod that is on its way out has ended as well, unless the job wants to
// know how it ends.
func (t *tally) countPod(job *batchv1.Job, pod *corev1.Pod, going bool) {
	finished := podFinished(pod)
	switch {
	case !finished && !going:
		t.active++
		t.activePods = append(t.activePods, pod)
		if podReady(pod) {
			t.ready++
		}
		return
	case !finished:
		t.terminating++
		if *job.Spec.PodReplacementPolicy == batchv1.Failed {
			return
		}
	}
	if !tracked(pod) {
		return
	}
	t.free = append(t.free, pod)
	list := t.status.UncountedTerminatedPods
	if slices.Contains(list.Succeeded, pod.UID) || slices.Contains(list.Failed, pod.UID) {
		return
	}
	index, ok := jobIndex(pod)
	valid := ok && job.Spec.Completions != nil && index < int(*job.Spec.Completions)
	switch {
	case pod.Status.Phase != corev1.PodSucceeded:
		t.countFailure(job, pod, index, valid)
	case !indexed(job):
		list.Succeeded = append(list.Succeeded, pod.UID)
	case valid && !t.indexes.has(index):
		t.indexes.add(index)
	}
}

// countFailure asks the podFailurePolicy what the failure means.
func (t *tally) countFailure(job *batchv1.Job, pod *corev1.Pod, index int, valid bool) {
	verdict := judgeFailure(job, pod)
	if verdict.action == batchv1.PodFailurePolicyActionFailJob {
		t.failJob = verdict.message
	}
	if verdict.action != batchv1.PodFailurePolicyActionIgnore {
		t.status.UncountedTerminatedPods.Failed = append(t.status.UncountedTerminatedPods.Failed, pod.UID)
	}
	if job.Spec.BackoffLimitPerIndex != nil && valid && indexFailed(job, pod, verdict) {
		t.failedIndexes.add(index)
	}
}

func indexed(job *batchv1.Job) bool { return *job.Spec.CompletionMode == batchv1.IndexedCompletion }

// settle is step 3: what was in the list when the finalizers were taken off is counted now.
func (t *tally) settle(list *[]types.UID, counter *int32, tracking map[types.UID]bool) {
	var left []types.UID
	for _, uid := range *list {
		if tracking[uid] {
			left = append(left, uid)
			continue
		}
		*counter++
	}
	*list = left
}

// free takes the finalizer off pods.
func (j *jobController) free(ctx context.Context, pods []*corev1.Pod) error {
	return forEach(slices.DeleteFunc(slices.Clone(pods), func(pod *corev1.Pod) bool { return !tracked(pod) }), func(pod *corev1.Pod) error {
		patch := mustJSON(map[string]any{"metadata": map[string]any{
			"uid": pod.UID, "$deleteFromPrimitiveList/finalizers": []string{batchv1.JobTrackingFinalizer},
		}})
		_, err := j.pods.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, strategicMerge, patch, metav1.PatchOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("take finalizer off pod %s: %w", keyOf(pod), err)
		}
		return nil
	})
}

// freePodsOf lets all pods of a job go that is gone or going.
func (j *jobController) freePodsOf(ctx context.Context, namespace, name string) error {
	all, err := j.pods.cache.lister.Pods(namespace).List(everything)
	if err != nil {
		return err
	}
	return j.free(ctx, slices.DeleteFunc(slices.Clone(all), func(pod *corev1.Pod) bool {
		owner := metav1.GetControllerOfNoCopy(pod)
		return owner == nil || owner.Kind != "Job" || owner.Name != name
	}))
}
