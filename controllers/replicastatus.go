package controllers

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// replicaSetStatus counts pods. A pod is ready when its condition says so, and available when it has been
// ready for minReadySeconds; again is how long until the next pod becomes available by time alone.
func replicaSetStatus(rs *appsv1.ReplicaSet, pods []*corev1.Pod, scaleErr error, now time.Time) (status appsv1.ReplicaSetStatus, again time.Duration) {
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	var terminating int32
	for _, pod := range pods {
		if pod.DeletionTimestamp != nil && !podFinished(pod) {
			terminating++
		}
		if !podActive(pod) {
			continue
		}
		status.Replicas++
		if template.Matches(labels.Set(pod.Labels)) {
			status.FullyLabeledReplicas++
		}
		if !podReady(pod) {
			continue
		}
		status.ReadyReplicas++
		if wait := untilAvailable(pod, rs.Spec.MinReadySeconds, now); wait <= 0 {
			status.AvailableReplicas++
		} else if again == 0 || wait < again {
			again = wait
		}
	}
	status.TerminatingReplicas = &terminating
	status.ObservedGeneration = rs.Generation
	status.Conditions = failureCondition(rs, scaleErr, now)
	return status, again
}

// failureCondition tells in status.conditions that pods cannot be created or deleted, until they can.
func failureCondition(rs *appsv1.ReplicaSet, err error, now time.Time) []appsv1.ReplicaSetCondition {
	conditions := slices.DeleteFunc(slices.Clone(rs.Status.Conditions), func(c appsv1.ReplicaSetCondition) bool {
		return c.Type == appsv1.ReplicaSetReplicaFailure
	})
	if err == nil {
		return conditions
	}
	for _, old := range rs.Status.Conditions {
		if old.Type == appsv1.ReplicaSetReplicaFailure {
			return append(conditions, old) // the first reason stays, so that retries do not write again and again
		}
	}
	reason := "FailedCreate"
	if int(rs.Status.Replicas) > int(*rs.Spec.Replicas) {
		reason = "FailedDelete"
	}
	return append(conditions, appsv1.ReplicaSetCondition{
		Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: reason,
		Message: rootMessage(err), LastTransitionTime: metav1.NewTime(now),
	})
}

// rootMessage is the API server's own words, without what we wrapped around them.
func rootMessage(err error) string {
	for {
		switch wrapped := err.(type) { //nolint:errorlint // this walks down the chain itself
		case interface{ Unwrap() error }:
			err = wrapped.Unwrap()
		case interface{ Unwrap() []error }:
			err = wrapped.Unwrap()[0]
		default:
			return err.Error()
		}
	}
}

func untilAvailable(pod *corev1.Pod, minReadySeconds int32, now time.Time) time.Duration {
	ready := podCondition(pod, corev1.PodReady)
	if minReadySeconds == 0 || ready == nil {
		return 0
	}
	return ready.LastTransitionTime.Add(time.Duration(minReadySeconds) * time.Second).Sub(now)
}

// podsToDelete picks n pods whose loss hurts least. Two pods are compared by these questions, in order;
// the first which tells them apart decides:
//
//  1. has it no node yet?            it has done nothing so far
//  2. is it pending, or unknown?     it does not run
//  3. is it not ready?               it serves nobody
//  4. does controller.kubernetes.io/pod-deletion-cost say it is cheaper?
//  5. do more of its kind share its node?
//  6. is it ready for a shorter time? (times of the same order of magnitude count as equal)
//  7. have its containers restarted more often?
//  8. is it younger? (likewise)
func podsToDelete(pods, siblings []*corev1.Pod, n int, now time.Time) []*corev1.Pod {
	sharing := map[string]int{}
	for _, pod := range siblings {
		sharing[pod.Spec.NodeName]++
	}
	phase := map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}
	sorted := slices.Clone(pods)
	slices.SortStableFunc(sorted, func(a, b *corev1.Pod) int {
		return cmp.Or(
			falseFirst(a.Spec.NodeName != "", b.Spec.NodeName != ""),
			cmp.Compare(phase[a.Status.Phase], phase[b.Status.Phase]),
			falseFirst(podReady(a), podReady(b)),
			cmp.Compare(deletionCost(a), deletionCost(b)),
			cmp.Compare(sharing[b.Spec.NodeName], sharing[a.Spec.NodeName]),
			cmp.Compare(magnitude(readySince(a), now), magnitude(readySince(b), now)),
			cmp.Compare(restarts(b), restarts(a)),
			cmp.Compare(magnitude(a.CreationTimestamp, now), magnitude(b.CreationTimestamp, now)),
			cmp.Compare(a.UID, b.UID), // so that two passes agree
		)
	})
	return sorted[:min(n, len(sorted))]
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

func deletionCost(pod *corev1.Pod) int32 {
	cost, _ := strconv.ParseInt(pod.Annotations[corev1.PodDeletionCost], 10, 32)
	return int32(cost)
}

func readySince(pod *corev1.Pod) metav1.Time {
	if ready := podCondition(pod, corev1.PodReady); ready != nil && ready.Status == corev1.ConditionTrue {
		return ready.LastTransitionTime
	}
	return metav1.Time{}
}

// magnitude is the binary logarithm of an age in nanoseconds: 2 h and 3 h are alike, 2 s and 2 h are not.
func magnitude(since metav1.Time, now time.Time) int {
	if since.IsZero() {
		return 0
	}
	return int(math.Log2(float64(max(1, now.Sub(since.Time)))))
}

func restarts(pod *corev1.Pod) int32 {
	var most int32
	for _, status := range pod.Status.ContainerStatuses {
		most = max(most, status.RestartCount)
	}
	return most
}
