package eviction

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"
)

// Reason is that of an evicted pod's status and event, and of one which the node does not take.
const Reason = "Evicted"

// Message says why a pod goes, and which of its containers are to blame; the annotations say the same to
// programs which read the event.
func Message(t Threshold, seen Observation, c Candidate) (text string, annotations map[string]string) {
	name, threshold := t.Signal.Resource(), t.Value.Of(seen.Capacity)
	var b strings.Builder
	fmt.Fprintf(&b, "The node was low on resource: %v. Threshold quantity: %v, available: %v. ", name, &threshold, &seen.Available)
	annotations = map[string]string{}
	if !c.Measured {
		return b.String(), annotations
	}
	if name == corev1.ResourceMemory && podresource.IsPodLevelResourcesSet(c.Pod) {
		if request, ok := c.Pod.Spec.Resources.Requests[name]; ok {
			used := resource.NewQuantity(c.Memory, resource.BinarySI).String()
			fmt.Fprintf(&b, "Pod %s was using %s, request is %s, has larger consumption of %v. ", c.Pod.Name, used, &request, name)
			annotations["offending_pod"], annotations["offending_pod_usage"] = c.Pod.Name, used
		}
	}
	var names, usages []string
	for _, have := range c.Containers {
		used, request, ok := have.exceeds(c.Pod, name)
		if !ok {
			continue
		}
		fmt.Fprintf(&b, "Container %s was using %s, request is %s, has larger consumption of %v. ", have.Name, used, request, name)
		names, usages = append(names, have.Name), append(usages, used)
	}
	annotations["offending_containers"] = strings.Join(names, ",")
	annotations["offending_containers_usage"] = strings.Join(usages, ",")
	annotations["starved_resource"] = string(name)
	return b.String(), annotations
}

// exceeds tells whether a container uses more than it requests. An ephemeral one cannot request anything,
// and is not to blame.
func (have Container) exceeds(pod *corev1.Pod, name corev1.ResourceName) (used, request string, ok bool) {
	var bytes int64
	switch name {
	case corev1.ResourceMemory:
		bytes = have.Memory
	case corev1.ResourceEphemeralStorage:
		bytes = have.Writable.Bytes + have.Logs.Bytes
	default:
		return "", "", false
	}
	for _, c := range slices.Concat(pod.Spec.Containers, pod.Spec.InitContainers) {
		if c.Name == have.Name {
			usage, requested := resource.NewQuantity(bytes, resource.BinarySI), c.Resources.Requests[name]
			return usage.String(), requested.String(), usage.Cmp(requested) > 0
		}
	}
	return "", "", false
}
