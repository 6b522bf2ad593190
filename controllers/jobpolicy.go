package controllers

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdictOnPod is what a job's podFailurePolicy says about a pod which failed. No action means that the
// failure counts, as without a policy.
type verdictOnPod struct {
	action  batchv1.PodFailurePolicyAction
	message string
}

// judgeFailure applies the first rule which matches the pod (KEP-3329).
func judgeFailure(job *batchv1.Job, pod *corev1.Pod) verdictOnPod {
	if job.Spec.PodFailurePolicy == nil {
		return verdictOnPod{}
	}
	for i, rule := range job.Spec.PodFailurePolicy.Rules {
		if rule.OnExitCodes != nil {
			if status := exitedWith(pod, rule.OnExitCodes); status != nil {
				return verdictOnPod{rule.Action, fmt.Sprintf("Container %s for pod %s failed with exit code %d matching %s rule at index %d",
					status.Name, keyOf(pod), status.State.Terminated.ExitCode, rule.Action, i)}
			}
			continue
		}
		for _, pattern := range rule.OnPodConditions {
			if c := podCondition(pod, pattern.Type); c != nil && c.Status == pattern.Status {
				return verdictOnPod{rule.Action, fmt.Sprintf("Pod %s has condition %s matching %s rule at index %d", keyOf(pod), c.Type, rule.Action, i)}
			}
		}
	}
	return verdictOnPod{}
}

// exitedWith finds the container whose exit code a rule speaks of. Success is no failure, so exit code 0
// matches nothing, not even NotIn.
func exitedWith(pod *corev1.Pod, rule *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	statuses := slices.Concat(pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses)
	for i := range statuses {
		status := &statuses[i]
		if status.State.Terminated == nil || status.State.Terminated.ExitCode == 0 || (rule.ContainerName != nil && *rule.ContainerName != status.Name) {
			continue
		}
		listed := slices.Contains(rule.Values, status.State.Terminated.ExitCode)
		if listed == (rule.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
			return status
		}
	}
	return nil
}

// successPolicyMet tells why an indexed job has succeeded before all its indexes have (KEP-3998), or nothing.
func successPolicyMet(job *batchv1.Job, done indexSet) (reason, message string) {
	if job.Spec.SuccessPolicy == nil {
		return "", ""
	}
	for i, rule := range job.Spec.SuccessPolicy.Rules {
		counted := len(done)
		wanted := counted + 1 // never, but for the cases below
		if rule.SucceededIndexes != nil {
			named := parseIndexes(*rule.SucceededIndexes)
			wanted, counted = len(named), 0
			for index := range named {
				if done.has(index) {
					counted++
				}
			}
		}
		if rule.SucceededCount != nil {
			wanted = int(*rule.SucceededCount)
		}
		if counted >= wanted {
			return batchv1.JobReasonSuccessPolicy, fmt.Sprintf("Matched rules at index %d", i)
		}
	}
	return "", ""
}
