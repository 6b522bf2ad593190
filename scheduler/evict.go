package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// preempt makes room for a pod which fits nowhere, if that is possible, and says why it waits.
//
// What is decided is written before it is done: first the node's name into status.nominatedNodeName, then
// the victims are deleted. When we die in between, the next scheduler knows for whom the room is. The pod
// itself is not bound: its turn comes again when the victims are gone.
func (s *scheduler) preempt(ctx context.Context, pod *corev1.Pod, snapshot *Snapshot, why Unfit) {
	message, helpful, nominated := why.Error(), why.helpful(), ""
	var way *Preemption
	if why.Nodes > 0 {
		var whyNot string
		if way, whyNot = Preempt(pod, snapshot, why); way == nil {
			message += " preemption: " + whyNot
		}
	}
	switch {
	case way != nil:
		nominated, helpful = way.Node.Node.Name, helpful|podLeft
	case mayNotPreempt(pod, snapshot) != "":
		nominated = pod.Status.NominatedNodeName // those who have to go are on their way
	}
	if nominated == "" {
		s.unnominate(pod)
	}
	s.state.nominate(pod, nominated)
	s.queue.failed(pod.UID, helpful)
	if err := s.tellUnschedulable(ctx, pod, message, nominated); err != nil {
		if ctx.Err() == nil && !apierrors.IsNotFound(err) {
			slog.Warn("tell why a pod waits", "err", err)
			s.queue.retryLater(pod.UID)
		}
		return
	}
	if way == nil {
		return
	}
	if err := s.evict(ctx, pod, way); err != nil && ctx.Err() == nil {
		slog.Warn("preempt", "pod", pod.Namespace+"/"+pod.Name, "node", nominated, "err", err)
		s.queue.retryLater(pod.UID)
		return
	}
	for _, other := range snapshot.Nominated[nominated] {
		if priority(other) < priority(pod) {
			s.giveUpRoom(ctx, other)
		}
	}
}

// evict deletes the victims, each with its grace period.
func (s *scheduler) evict(ctx context.Context, pod *corev1.Pod, way *Preemption) error {
	errs := make([]error, len(way.Victims))
	var group sync.WaitGroup
	for i, victim := range way.Victims {
		if victim.DeletionTimestamp != nil {
			continue // it goes already
		}
		group.Go(func() { errs[i] = s.evictOne(ctx, pod, victim) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// evictOne says in the victim's conditions why it has to go; its owner may count it differently then (a
// Job's podFailurePolicy can ignore it).
func (s *scheduler) evictOne(ctx context.Context, pod, victim *corev1.Pod) error {
	condition := corev1.PodCondition{
		Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler,
		Message: pod.Spec.SchedulerName + ": preempting to accommodate a higher priority pod", LastTransitionTime: metav1.Now(),
	}
	err := s.patchStatus(ctx, victim, map[string]any{"conditions": []corev1.PodCondition{condition}})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	err = s.client.CoreV1().Pods(victim.Namespace).Delete(ctx, victim.Name, *metav1.NewPreconditionDeleteOptions(string(victim.UID)))
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("evict pod %s/%s: %w", victim.Namespace, victim.Name, err)
	}
	s.events.Eventf(victim, corev1.EventTypeNormal, "Preempted", "Preempted by pod %v on node %v", pod.UID, victim.Spec.NodeName)
	slog.Info("preempted", "victim", victim.Namespace+"/"+victim.Name, "for", pod.Namespace+"/"+pod.Name, "node", victim.Spec.NodeName)
	return nil
}

// giveUpRoom takes the nomination from a pod on whose node a more important one has made room now.
func (s *scheduler) giveUpRoom(ctx context.Context, pod *corev1.Pod) {
	s.unnominate(pod)
	if err := s.patchStatus(ctx, pod, map[string]any{"nominatedNodeName": nil}); err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		slog.Warn("take back a nomination", "err", err)
	}
}

// tellUnschedulable says why a pod waits, as event and as condition, and for which node. The status is
// written only when it says something new: each write wakes everybody who watches pods.
func (s *scheduler) tellUnschedulable(ctx context.Context, pod *corev1.Pod, message, nominated string) error {
	slog.Info("no node for pod", "pod", pod.Namespace+"/"+pod.Name, "why", message, "nominated", nominated)
	s.events.Event(pod, corev1.EventTypeWarning, "FailedScheduling", message)
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		Message: message, LastTransitionTime: metav1.Now(),
	}
	for _, before := range pod.Status.Conditions {
		if before.Type != corev1.PodScheduled || before.Status != condition.Status {
			continue
		}
		if before.Reason == condition.Reason && before.Message == condition.Message && nominated == pod.Status.NominatedNodeName {
			return nil
		}
		condition.LastTransitionTime = before.LastTransitionTime
	}
	status := map[string]any{"conditions": []corev1.PodCondition{condition}}
	if nominated != pod.Status.NominatedNodeName {
		status["nominatedNodeName"] = nominated
	}
	return s.patchStatus(ctx, pod, status)
}

// patchStatus writes fields of a pod's status, unless another pod has its name meanwhile.
func (s *scheduler) patchStatus(ctx context.Context, pod *corev1.Pod, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID}, "status": status})
	if err != nil {
		return fmt.Errorf("encode status: %w", err)
	}
	_, err = s.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write status of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
