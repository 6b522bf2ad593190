package controllers

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons of the condition Progressing. kubectl rollout status looks for the last one.
const (
	reasonAvailable = "NewReplicaSetAvailable"
	reasonUpdated   = "ReplicaSetUpdated"
	reasonPaused    = "DeploymentPaused"
	reasonResumed   = "DeploymentResumed"
	reasonOutOfTime = "ProgressDeadlineExceeded"
)

// deploymentStatus sums up the ReplicaSets and draws the three conditions from it.
func deploymentStatus(deployment *appsv1.Deployment, current *appsv1.ReplicaSet, all []*appsv1.ReplicaSet, now time.Time) appsv1.DeploymentStatus {
	status := appsv1.DeploymentStatus{
		ObservedGeneration: deployment.Generation,
		AvailableReplicas:  availableReplicas(all),
		CollisionCount:     deployment.Status.CollisionCount,
		Conditions:         slices.Clone(deployment.Status.Conditions),
	}
	var terminating int32
	for _, rs := range all {
		status.Replicas += rs.Status.Replicas
		status.ReadyReplicas += rs.Status.ReadyReplicas
		if rs.Status.TerminatingReplicas != nil {
			terminating += *rs.Status.TerminatingReplicas
		}
	}
	status.TerminatingReplicas = &terminating
	status.UnavailableReplicas = max(0, specReplicas(all)-status.AvailableReplicas)
	if current != nil {
		status.UpdatedReplicas = current.Status.Replicas
	}
	setDeploymentCondition(&status, availableCondition(deployment, &status, now))
	setProgress(deployment, current, &status, now)
	setReplicaFailure(&status, current, all)
	return status
}

func availableCondition(deployment *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) appsv1.DeploymentCondition {
	condition := appsv1.DeploymentCondition{
		Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable",
		Message:        "Deployment has minimum availability.",
		LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	}
	if _, unavailable := surgeAndUnavailable(deployment); status.AvailableReplicas < *deployment.Spec.Replicas-unavailable {
		condition.Status, condition.Reason = corev1.ConditionFalse, "MinimumReplicasUnavailable"
		condition.Message = "Deployment does not have minimum availability."
	}
	return condition
}

// setProgress keeps the condition Progressing. Its lastUpdateTime moves with every step forward; when it
// has not moved for progressDeadlineSeconds, the rollout has failed (and goes on trying).
func setProgress(deployment *appsv1.Deployment, current *appsv1.ReplicaSet, status *appsv1.DeploymentStatus, now time.Time) {
	before := deploymentCondition(&deployment.Status, appsv1.DeploymentProgressing)
	alreadyComplete := status.Replicas == status.UpdatedReplicas && before != nil && before.Reason == reasonAvailable
	if !hasDeadline(deployment) {
		status.Conditions = slices.DeleteFunc(status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentProgressing })
		return
	}
	if alreadyComplete {
		return
	}
	who := fmt.Sprintf("Deployment %q", deployment.Name)
	if current != nil {
		who = fmt.Sprintf("ReplicaSet %q", current.Name)
	}
	switch {
	case deploymentComplete(deployment, status):
		setDeploymentCondition(status, progressing(corev1.ConditionTrue, reasonAvailable, who+" has successfully progressed.", now))
	case madeProgress(&deployment.Status, status):
		condition := progressing(corev1.ConditionTrue, reasonUpdated, who+" is progressing.", now)
		if before != nil && before.Status == corev1.ConditionTrue {
			condition.LastTransitionTime = before.LastTransitionTime
		}
		replaceDeploymentCondition(status, condition)
	case outOfTime(deployment, status, now):
		setDeploymentCondition(status, progressing(corev1.ConditionFalse, reasonOutOfTime, who+" has timed out progressing.", now))
	}
}

// deploymentComplete: all replicas are of the new version and available, and no old one is left.
func deploymentComplete(deployment *appsv1.Deployment, status *appsv1.DeploymentStatus) bool {
	wanted := *deployment.Spec.Replicas
	return status.UpdatedReplicas == wanted && status.Replicas == wanted && status.AvailableReplicas == wanted &&
		status.ObservedGeneration >= deployment.Generation
}

func madeProgress(before, after *appsv1.DeploymentStatus) bool {
	return after.UpdatedReplicas > before.UpdatedReplicas ||
		after.Replicas-after.UpdatedReplicas < before.Replicas-before.UpdatedReplicas ||
		after.ReadyReplicas > before.ReadyReplicas || after.AvailableReplicas > before.AvailableReplicas
}

func outOfTime(deployment *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) bool {
	condition := deploymentCondition(status, appsv1.DeploymentProgressing)
	if condition == nil || condition.Reason == reasonAvailable || deployment.Spec.Paused {
		return false
	}
	return condition.Reason == reasonOutOfTime || !now.Before(deadline(deployment, condition))
}

func deadline(deployment *appsv1.Deployment, condition *appsv1.DeploymentCondition) time.Time {
	return condition.LastUpdateTime.Add(time.Duration(*deployment.Spec.ProgressDeadlineSeconds) * time.Second)
}

// untilDeadline is how long to wait before a rollout which does not move has to be called failed;
// 0 when there is nothing to wait for.
func untilDeadline(deployment *appsv1.Deployment, status *appsv1.DeploymentStatus, now time.Time) time.Duration {
	condition := deploymentCondition(status, appsv1.DeploymentProgressing)
	if !hasDeadline(deployment) || condition == nil || deployment.Spec.Paused || condition.Status == corev1.ConditionFalse ||
		condition.Reason == reasonAvailable {
		return 0
	}
	// Times in the API are whole seconds.
	return max(time.Second, deadline(deployment, condition).Sub(now)+time.Second)
}

// hasDeadline: the largest number stands for "none".
func hasDeadline(deployment *appsv1.Deployment) bool {
	seconds := deployment.Spec.ProgressDeadlineSeconds
	return seconds != nil && *seconds != math.MaxInt32
}

// setReplicaFailure passes on why a ReplicaSet cannot create pods.
func setReplicaFailure(status *appsv1.DeploymentStatus, current *appsv1.ReplicaSet, all []*appsv1.ReplicaSet) {
	status.Conditions = slices.DeleteFunc(status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == appsv1.DeploymentReplicaFailure })
	suspects := all
	if current != nil {
		suspects = []*appsv1.ReplicaSet{current}
	}
	for _, rs := range suspects {
		for _, failure := range rs.Status.Conditions {
			if failure.Type == appsv1.ReplicaSetReplicaFailure {
				status.Conditions = append(status.Conditions, appsv1.DeploymentCondition{
					Type: appsv1.DeploymentReplicaFailure, Status: failure.Status, Reason: failure.Reason, Message: failure.Message,
					LastTransitionTime: failure.LastTransitionTime, LastUpdateTime: failure.LastTransitionTime,
				})
				return
			}
		}
	}
}

// pauseCondition is what Progressing has to become when a Deployment was just paused or resumed, else nil.
func pauseCondition(deployment *appsv1.Deployment, now time.Time) *appsv1.DeploymentCondition {
	if !hasDeadline(deployment) {
		return nil
	}
	condition := deploymentCondition(&deployment.Status, appsv1.DeploymentProgressing)
	if condition != nil && condition.Reason == reasonOutOfTime {
		return nil
	}
	noted := condition != nil && condition.Reason == reasonPaused
	switch {
	case deployment.Spec.Paused && !noted:
		return new(progressing(corev1.ConditionUnknown, reasonPaused, "Deployment is paused", now))
	case !deployment.Spec.Paused && noted:
		return new(progressing(corev1.ConditionUnknown, reasonResumed, "Deployment is resumed", now))
	}
	return nil
}

func progressing(status corev1.ConditionStatus, reason, message string, now time.Time) appsv1.DeploymentCondition {
	return appsv1.DeploymentCondition{
		Type: appsv1.DeploymentProgressing, Status: status, Reason: reason, Message: message,
		LastUpdateTime: metav1.NewTime(now), LastTransitionTime: metav1.NewTime(now),
	}
}

func deploymentCondition(status *appsv1.DeploymentStatus, kind appsv1.DeploymentConditionType) *appsv1.DeploymentCondition {
	for i := range status.Conditions {
		if status.Conditions[i].Type == kind {
			return &status.Conditions[i]
		}
	}
	return nil
}

// setDeploymentCondition writes a condition, unless status and reason are as before: an unchanged
// condition keeps its times, and the status needs no write.
func setDeploymentCondition(status *appsv1.DeploymentStatus, condition appsv1.DeploymentCondition) {
	before := deploymentCondition(status, condition.Type)
	if before != nil && before.Status == condition.Status && before.Reason == condition.Reason {
		return
	}
	if before != nil && before.Status == condition.Status {
		condition.LastTransitionTime = before.LastTransitionTime
	}
	replaceDeploymentCondition(status, condition)
}

func replaceDeploymentCondition(status *appsv1.DeploymentStatus, condition appsv1.DeploymentCondition) {
	status.Conditions = append(slices.DeleteFunc(slices.Clone(status.Conditions), func(c appsv1.DeploymentCondition) bool {
		return c.Type == condition.Type
	}), condition)
}
