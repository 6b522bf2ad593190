package eviction

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	podresource "k8s.io/component-helpers/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
)

// Disk is what something takes of a file system.
type Disk struct{ Bytes, Inodes int64 }

func (d Disk) plus(other Disk) Disk { return Disk{d.Bytes + other.Bytes, d.Inodes + other.Inodes} }

// Container is what a container uses.
type Container struct {
	Name           string
	Memory         int64 // its working set, in bytes
	Writable, Logs Disk
}

// Candidate is a pod with what it uses. Disk usage is there only when it was asked for.
type Candidate struct {
	Pod        *corev1.Pod
	Measured   bool // false when nothing of the pod has run yet
	Memory     int64
	Processes  int64
	Containers []Container
	Volumes    map[string]Disk // its emptyDirs, by name
}

// Rank sorts the pods, the one to be evicted first in front:
//
//  1. those of which nothing is known,
//  2. those which use more than they request,
//  3. then by priority, the lowest first,
//  4. then by how much more than its request a pod uses.
//
// Process IDs cannot be requested: there the order is priority, then number. imagesApart says that
// the images have a file system of their own, on which no pod writes.
func Rank(pods []Candidate, signal Signal, imagesApart bool) []Candidate {
	class := func(c Candidate) int {
		switch used, requested := c.use(signal, imagesApart); {
		case signal == PIDAvailable:
			return 0
		case !c.Measured:
			return 1
		case used > requested:
			return 2
		default:
			return 3
		}
	}
	excess := func(c Candidate) int64 {
		used, requested := c.use(signal, imagesApart)
		return used - requested
	}
	ranked := slices.Clone(pods)
	slices.SortStableFunc(ranked, func(a, b Candidate) int {
		return cmp.Or(
			cmp.Compare(class(a), class(b)),
			cmp.Compare(corev1helpers.PodPriority(a.Pod), corev1helpers.PodPriority(b.Pod)),
			unmeasuredFirst(a, b),
			cmp.Compare(excess(b), excess(a)),
		)
	})
	return ranked
}

func unmeasuredFirst(a, b Candidate) int {
	switch {
	case a.Measured == b.Measured:
		return 0
	case b.Measured:
		return -1
	default:
		return 1
	}
}

// use is how much a pod uses of what a signal is about, and how much of it it has requested.
func (c Candidate) use(signal Signal, imagesApart bool) (used, requested int64) {
	name := signal.Resource()
	switch {
	case name == corev1.ResourceMemory:
		used = c.Memory
	case name == pids:
		return c.Processes, 0
	case signal.OnImageFS() && imagesApart:
	case name == inodes:
		return c.disk().Inodes, 0
	default:
		used = c.disk().Bytes
	}
	quantity := podresource.PodRequests(c.Pod, podresource.PodResourcesOptions{})[name]
	return used, quantity.Value()
}

// disk is all that the pod has written: logs, its containers' writable layers, emptyDirs that are on disk.
func (c Candidate) disk() Disk {
	var sum Disk
	for _, container := range c.Containers {
		sum = sum.plus(container.Writable).plus(container.Logs)
	}
	for i := range c.Pod.Spec.Volumes {
		if v := &c.Pod.Spec.Volumes[i]; v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumDefault {
			sum = sum.plus(c.Volumes[v.Name])
		}
	}
	return sum
}
