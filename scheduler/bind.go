package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// bind writes the decision: POST …/pods/web-1/binding with the node's name. The API server sets
// spec.nodeName and the condition PodScheduled=True in one step, and refuses a second binding.
func (s *scheduler) bind(ctx context.Context, pod, assumed *corev1.Pod) {
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: assumed.Spec.NodeName},
	}
	err := s.client.CoreV1().Pods(pod.Namespace).Bind(ctx, binding, metav1.CreateOptions{})
	switch {
	case err == nil:
		s.queue.remove(pod.UID)
		s.events.Eventf(pod, corev1.EventTypeNormal, "Scheduled", "Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, assumed.Spec.NodeName)
		slog.Info("scheduled", "pod", pod.Namespace+"/"+pod.Name, "node", assumed.Spec.NodeName)
		return
	case ctx.Err() != nil:
		return
	case apierrors.IsNotFound(err), apierrors.IsConflict(err):
		// Deleted, or bound by somebody else: the watch tells what became of it.
		slog.Debug("pod changed before it was bound", "pod", pod.Namespace+"/"+pod.Name, "err", err)
	default:
		slog.Warn("bind", "pod", pod.Namespace+"/"+pod.Name, "node", assumed.Spec.NodeName, "err", err)
		s.events.Eventf(pod, corev1.EventTypeWarning, "FailedScheduling", "binding rejected: %v", err)
	}
	s.state.forget(assumed)
	s.queue.retryLater(pod.UID)
	s.queue.clusterChanged(podLeft) // the place which was held for it is free
}

// tellUnschedulable says why, as event and as condition. The condition is written only when it says
// something new: each write wakes everybody who watches pods.
func (s *scheduler) tellUnschedulable(ctx context.Context, pod *corev1.Pod, why Unfit) {
	message := why.Error()
	slog.Info("no node for pod", "pod", pod.Namespace+"/"+pod.Name, "why", message)
	s.events.Event(pod, corev1.EventTypeWarning, "FailedScheduling", message)
	condition := corev1.PodCondition{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		Message: message, LastTransitionTime: metav1.Now(),
	}
	for _, before := range pod.Status.Conditions {
		if before.Type != corev1.PodScheduled {
			continue
		}
		if before.Status == condition.Status && before.Reason == condition.Reason && before.Message == condition.Message {
			return
		}
		if before.Status == condition.Status {
			condition.LastTransitionTime = before.LastTransitionTime
		}
	}
	if err := s.writeCondition(ctx, pod, condition); err != nil && ctx.Err() == nil && !apierrors.IsNotFound(err) {
		slog.Warn("tell why a pod waits", "err", err)
	}
}

func (s *scheduler) writeCondition(ctx context.Context, pod *corev1.Pod, condition corev1.PodCondition) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{condition}},
	})
	if err != nil {
		return fmt.Errorf("encode condition: %w", err)
	}
	_, err = s.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return fmt.Errorf("write condition of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}
