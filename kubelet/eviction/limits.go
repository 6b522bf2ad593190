package eviction

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"
)

// Upstream's names, in its metric of evictions, of a pod's own limits.
const (
	emptyDirLimit  Signal = "emptydirfs.limit"
	podLimit       Signal = "ephemeralpodfs.limit"
	containerLimit Signal = "ephemeralcontainerfs.limit"
)

// HasLimits tells whether a pod's disk usage has to be known for OverLimit.
func HasLimits(pod *corev1.Pod) bool {
	if _, ok := storageLimit(pod); ok {
		return true
	}
	return slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return sizeLimit(v) != nil })
}

// OverLimit tells which of its own limits a pod exceeds, and what its status says then.
func (c Candidate) OverLimit() (limit Signal, message string, over bool) {
	for _, v := range c.Pod.Spec.Volumes {
		if size := sizeLimit(v); size != nil && exceeds(c.Volumes[v.Name], *size) {
			return emptyDirLimit, fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, size), true
		}
	}
	if size, ok := storageLimit(c.Pod); ok && exceeds(c.disk(), size) {
		return podLimit, fmt.Sprintf("Pod ephemeral local storage usage exceeds the total limit of containers %s. ", &size), true
	}
	for _, have := range c.Containers {
		size := containerStorageLimit(c.Pod, have.Name)
		if !size.IsZero() && exceeds(have.Writable.plus(have.Logs), size) {
			return containerLimit, fmt.Sprintf("Container %s exceeded its local ephemeral storage limit %q. ", have.Name, &size), true
		}
	}
	return "", "", false
}

func exceeds(used Disk, limit resource.Quantity) bool {
	return resource.NewQuantity(used.Bytes, resource.BinarySI).Cmp(limit) > 0
}

// sizeLimit is nil for a volume without.
func sizeLimit(v corev1.Volume) *resource.Quantity {
	if v.EmptyDir == nil || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Sign() <= 0 {
		return nil
	}
	return v.EmptyDir.SizeLimit
}

// storageLimit is the sum of the containers' limits.
func storageLimit(pod *corev1.Pod) (resource.Quantity, bool) {
	size, ok := podresource.PodLimits(pod, podresource.PodResourcesOptions{})[corev1.ResourceEphemeralStorage]
	return size, ok
}

func containerStorageLimit(pod *corev1.Pod, name string) resource.Quantity {
	for _, c := range pod.Spec.Containers {
		if c.Name == name {
			return c.Resources.Limits[corev1.ResourceEphemeralStorage]
		}
	}
	return resource.Quantity{}
}
