package scheduler

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"
)

// resources: what all pods of a node request together must not be more than the node has to give. Requests
// count, not use: a node may be idle and full. What asks for more than an empty node has is refused for good.
func resources(pod *corev1.Pod, node *NodeInfo) refusal {
	var answer refusal
	if allowed := node.allocatable(corev1.ResourcePods); int64(len(node.Pods))+1 > allowed {
		answer.reasons = append(answer.reasons, reasonPods)
	}
	requests := podRequests(pod)
	for _, name := range slices.Sorted(maps.Keys(requests)) {
		if wanted := requests[name]; wanted > 0 && wanted > node.allocatable(name)-node.Requested[name] {
			answer.reasons = append(answer.reasons, "Insufficient "+string(name))
			answer.final = answer.final || wanted > node.allocatable(name)
		}
	}
	return answer
}

// podRequests is the larger of what the containers need together and what the hungriest init container
// needs alone, plus overhead.
func podRequests(pod *corev1.Pod) map[corev1.ResourceName]int64 {
	requests := map[corev1.ResourceName]int64{}
	for name, quantity := range podresource.PodRequests(pod, podresource.PodResourcesOptions{}) {
		requests[name] = inUnits(name, quantity)
	}
	return requests
}

// inUnits counts CPU in thousandths, because 0.1 CPU is a usual request.
func inUnits(name corev1.ResourceName, quantity resource.Quantity) int64 {
	if name == corev1.ResourceCPU {
		return quantity.MilliValue()
	}
	return quantity.Value()
}
