package controllers

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/internal/kube"
)

// replicationControllers runs the ReplicaSet's loop over ReplicationControllers.
func replicationControllers(c *cluster) loop {
	informer := c.informers.Core().V1().ReplicationControllers()
	lister := informer.Lister()
	api := c.client.CoreV1()
	r := newReplicaSetController(c, corev1.SchemeGroupVersion.WithKind("ReplicationController"), "replication-controller", replicaSource{
		cached: func(namespace, name string) (*appsv1.ReplicaSet, error) {
			rc, err := lister.ReplicationControllers(namespace).Get(name)
			if err != nil {
				return nil, err
			}
			return asReplicaSet(rc), nil
		},
		list: func(namespace string) []*appsv1.ReplicaSet {
			all, _ := lister.ReplicationControllers(namespace).List(everything)
			sets := make([]*appsv1.ReplicaSet, 0, len(all))
			for _, rc := range all {
				sets = append(sets, asReplicaSet(rc))
			}
			return sets
		},
		live: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return api.ReplicationControllers(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		writeStatus: func(ctx context.Context, rs *appsv1.ReplicaSet) error {
			_, err := api.ReplicationControllers(rs.Namespace).UpdateStatus(ctx, fromReplicaSet(rs), metav1.UpdateOptions{})
			return err
		},
	})
	kube.OnChange(informer.Informer(), func(was, is *corev1.ReplicationController) { r.queue.Add(keyOf(either(was, is))) })
	return r.run
}

// asReplicaSet shows a ReplicationController as a ReplicaSet. Its selector is a plain map.
func asReplicaSet(rc *corev1.ReplicationController) *appsv1.ReplicaSet {
	rs := &appsv1.ReplicaSet{
		ObjectMeta: rc.ObjectMeta,
		Spec: appsv1.ReplicaSetSpec{
			Replicas: rc.Spec.Replicas, MinReadySeconds: rc.Spec.MinReadySeconds,
			Selector: &metav1.LabelSelector{MatchLabels: rc.Spec.Selector},
		},
		Status: appsv1.ReplicaSetStatus{
			Replicas: rc.Status.Replicas, FullyLabeledReplicas: rc.Status.FullyLabeledReplicas, ReadyReplicas: rc.Status.ReadyReplicas,
			AvailableReplicas: rc.Status.AvailableReplicas, ObservedGeneration: rc.Status.ObservedGeneration,
		},
	}
	if rc.Spec.Template != nil {
		rs.Spec.Template = *rc.Spec.Template
	}
	for _, condition := range rc.Status.Conditions {
		rs.Status.Conditions = append(rs.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: appsv1.ReplicaSetConditionType(condition.Type), Status: condition.Status, Reason: condition.Reason,
			Message: condition.Message, LastTransitionTime: condition.LastTransitionTime,
		})
	}
	return rs
}

// fromReplicaSet undoes asReplicaSet, for writing the status.
func fromReplicaSet(rs *appsv1.ReplicaSet) *corev1.ReplicationController {
	rc := &corev1.ReplicationController{
		ObjectMeta: rs.ObjectMeta,
		Spec: corev1.ReplicationControllerSpec{
			Replicas: rs.Spec.Replicas, MinReadySeconds: rs.Spec.MinReadySeconds,
			Selector: rs.Spec.Selector.MatchLabels, Template: &rs.Spec.Template,
		},
		Status: corev1.ReplicationControllerStatus{
			Replicas: rs.Status.Replicas, FullyLabeledReplicas: rs.Status.FullyLabeledReplicas, ReadyReplicas: rs.Status.ReadyReplicas,
			AvailableReplicas: rs.Status.AvailableReplicas, ObservedGeneration: rs.Status.ObservedGeneration,
		},
	}
	for _, condition := range rs.Status.Conditions {
		rc.Status.Conditions = append(rc.Status.Conditions, corev1.ReplicationControllerCondition{
			Type: corev1.ReplicationControllerConditionType(condition.Type), Status: condition.Status, Reason: condition.Reason,
			Message: condition.Message, LastTransitionTime: condition.LastTransitionTime,
		})
	}
	return rc
}
