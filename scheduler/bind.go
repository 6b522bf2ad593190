package scheduler

import (
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	s.state.nominate(pod, pod.Status.NominatedNodeName) // the room is still kept for it
	s.queue.retryLater(pod.UID)
	s.queue.clusterChanged(podLeft) // the place which was held for it is free
}
