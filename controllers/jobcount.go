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
	indexes                                       indexSet
	free                                          []*corev1.Pod // to be let go
	status                                        batchv1.JobStatus
	activePods                                    []*corev1.Pod
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
	indexed := *job.Spec.CompletionMode == batchv1.IndexedCompletion
	t.indexes = parseIndexes(job.Status.CompletedIndexes)
	tracking := map[types.UID]bool{}
	for _, pod := range pods {
		tracking[pod.UID] = tracked(pod)
	}
	t.settle(&list.Succeeded, &t.status.Succeeded, tracking)
	t.settle(&list.Failed, &t.status.Failed, tracking)
	for _, pod := range pods {
		ended := podFinished(pod) || going(pod)
		succeeded := pod.Status.Phase == corev1.PodSucceeded
		switch {
		case !ended:
			t.active++
			t.activePods = append(t.activePods, pod)
			if podReady(pod) {
				t.ready++
			}
			continue
		case !podFinished(pod):
			t.terminating++
		}
		if !tracked(pod) {
			continue
		}
		t.free = append(t.free, pod)
		if slices.Contains(list.Succeeded, pod.UID) || slices.Contains(list.Failed, pod.UID) {
			continue
		}
		switch index, ok := jobIndex(pod); {
		case !succeeded:
			list.Failed = append(list.Failed, pod.UID)
		case !indexed:
			list.Succeeded = append(list.Succeeded, pod.UID)
		case ok && !t.indexes.has(index) && index < int(*job.Spec.Completions):
			t.indexes.add(index)
		}
	}
	if indexed {
		t.status.CompletedIndexes, t.status.Succeeded = t.indexes.String(), int32(len(t.indexes))
	}
	t.succeeded = t.status.Succeeded + int32(len(list.Succeeded))
	t.failed = t.status.Failed + int32(len(list.Failed))
	return t
}

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
