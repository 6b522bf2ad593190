package kubelet

import (
	"path"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/podarium/podarium/kubelet/runtime"
)

// qosClass of a pod: Guaranteed when every container's limits equal its requests for cpu and memory,
// BestEffort when nobody asks for anything, Burstable otherwise.
func qosClass(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	guaranteed, any := true, false
	for _, c := range allContainers(pod) {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request, limit := c.Resources.Requests[name], c.Resources.Limits[name]
			if !request.IsZero() || !limit.IsZero() {
				any = true
			}
			if limit.IsZero() || (!request.IsZero() && request.Cmp(limit) != 0) {
				guaranteed = false
			}
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	default:
		return corev1.PodQOSBurstable
	}
}

// podCgroup is the pod's control group below the root of each hierarchy: /kubepods/burstable/podUID.
func podCgroup(root string, pod *corev1.Pod) string {
	switch qosClass(pod) {
	case corev1.PodQOSGuaranteed:
		return path.Join("/", root, "kubepods", "pod"+string(pod.UID))
	case corev1.PodQOSBurstable:
		return path.Join("/", root, "kubepods", "burstable", "pod"+string(pod.UID))
	default:
		return path.Join("/", root, "kubepods", "besteffort", "pod"+string(pod.UID))
	}
}

// cpuShares turns a CPU request into a weight: one CPU is 1024, and nothing is 2, the least there is.
func cpuShares(c *corev1.Container) uint64 { return milliShares(milliRequest(c)) }

func milliShares(milli int64) uint64 { return uint64(min(262144, max(2, milli*1024/1000))) }

// milliRequest is how many thousandths of a CPU a container asks for.
func milliRequest(c *corev1.Container) int64 {
	request, ok := c.Resources.Requests[corev1.ResourceCPU]
	if !ok {
		request = c.Resources.Limits[corev1.ResourceCPU]
	}
	return request.MilliValue()
}

// cpuQuota turns a CPU limit into microseconds per 100 ms: 250m is 25000. 1 ms is the least.
func cpuQuota(c *corev1.Container) int64 {
	limit, ok := c.Resources.Limits[corev1.ResourceCPU]
	if !ok || limit.IsZero() {
		return 0
	}
	return max(1000, limit.MilliValue()*100)
}

func memoryLimit(c *corev1.Container) int64 {
	limit := c.Resources.Limits[corev1.ResourceMemory]
	return limit.Value()
}

// withPodLimits is a container which takes the pod's limits for those that it has not of its own.
func withPodLimits(pod *corev1.Pod, c *corev1.Container) *corev1.Container {
	if pod.Spec.Resources == nil {
		return c
	}
	c = c.DeepCopy()
	for name, limit := range pod.Spec.Resources.Limits {
		if _, ok := c.Resources.Limits[name]; !ok {
			if c.Resources.Limits == nil {
				c.Resources.Limits = corev1.ResourceList{}
			}
			c.Resources.Limits[name] = limit
		}
	}
	return c
}

// podLimits are the limits of a pod's own control group: the pod's own, else the sum of what its containers ask
// for, and a limit if every container has one. Init containers run before the others, so the largest of them counts.
func podLimits(pod *corev1.Pod) runtime.CgroupLimits {
	limits := sumOfLimits(pod)
	if pod.Spec.Resources == nil {
		return limits
	}
	whole := &corev1.Container{Resources: *pod.Spec.Resources}
	if request := milliRequest(whole); request > 0 {
		limits.CPUShares = milliShares(request)
	}
	if quota := cpuQuota(whole); quota > 0 {
		limits.CPUQuota = quota
	}
	if memory := memoryLimit(whole); memory > 0 {
		limits.MemoryLimit = memory
	}
	return limits
}

func sumOfLimits(pod *corev1.Pod) runtime.CgroupLimits {
	var request, quota, memory sum
	for _, c := range allContainers(pod) {
		alone := isInit(pod, c) && !isSidecar(c)
		request.add(milliRequest(c), alone)
		quota.add(cpuQuota(c), alone)
		memory.add(memoryLimit(c), alone)
	}
	return runtime.CgroupLimits{CPUShares: milliShares(request.total()), CPUQuota: quota.limit(), MemoryLimit: memory.limit()}
}

// sum adds up one resource over a pod's containers.
type sum struct {
	together, most int64 // of the containers which run at the same time, and of one that runs alone
	missing        bool  // a container says nothing of it
}

func (s *sum) add(value int64, alone bool) {
	s.missing = s.missing || value == 0
	if alone {
		s.most = max(s.most, value)
	} else {
		s.together += value
	}
}

func (s *sum) total() int64 { return max(s.together, s.most) }

// limit is 0, none, unless every container has one.
func (s *sum) limit() int64 {
	if s.missing {
		return 0
	}
	return s.total()
}

// oomScoreAdj makes the kernel prefer, when memory runs out, pods which asked for little: BestEffort
// 1000, Burstable 3 to 999 by the share of memory requested. Guaranteed would be -997 by upstream's
// rule, which takes a right that a lab may not have; 0 still comes last of the three.
func oomScoreAdj(pod *corev1.Pod, c *corev1.Container, capacity int64) int {
	class := qosClass(pod)
	switch {
	case class == corev1.PodQOSGuaranteed:
		return 0
	case class == corev1.PodQOSBestEffort || capacity == 0:
		return 1000
	}
	request := memoryRequest(c)
	if isInit(pod, c) && isSidecar(c) { // it goes no sooner than what it serves
		least := memoryRequest(&pod.Spec.Containers[0])
		for i := range pod.Spec.Containers {
			least = min(least, memoryRequest(&pod.Spec.Containers[i]))
		}
		request = max(request, least)
	}
	return int(min(999, max(3, 1000-1000*(request+sharedRequest(pod))/capacity)))
}

func memoryRequest(c *corev1.Container) int64 {
	request := c.Resources.Requests[corev1.ResourceMemory]
	return request.Value()
}

// sharedRequest is a container's part of what the pod asks for beyond what its containers do.
func sharedRequest(pod *corev1.Pod) int64 {
	if pod.Spec.Resources == nil {
		return 0
	}
	rest := memoryRequest(&corev1.Container{Resources: *pod.Spec.Resources})
	sharing := int64(0)
	for _, c := range allContainers(pod) {
		if !isInit(pod, c) || isSidecar(c) {
			rest -= memoryRequest(c)
			sharing++
		}
	}
	return max(0, rest) / sharing
}

// containerResource is the value of a resourceFieldRef: limits.cpu, requests.memory and so on, divided
// by the divisor and rounded up. A container without limit may use the whole node.
func containerResource(c *corev1.Container, ref *corev1.ResourceFieldSelector, allocatable corev1.ResourceList) int64 {
	kind, name := path.Split(replaceDot(ref.Resource))
	list := c.Resources.Limits
	if kind == "requests/" {
		list = c.Resources.Requests
	}
	value, ok := list[corev1.ResourceName(name)]
	if !ok && kind == "limits/" {
		value = allocatable[corev1.ResourceName(name)]
	}
	divisor := ref.Divisor
	if divisor.IsZero() {
		divisor = resource.MustParse("1")
	}
	if corev1.ResourceName(name) == corev1.ResourceCPU {
		return ceilDiv(value.MilliValue(), divisor.MilliValue())
	}
	return ceilDiv(value.Value(), divisor.Value())
}

// replaceDot makes "limits/ephemeral-storage" of "limits.ephemeral-storage".
func replaceDot(field string) string {
	for i := range field {
		if field[i] == '.' {
			return field[:i] + "/" + field[i+1:]
		}
	}
	return field
}

func ceilDiv(a, b int64) int64 {
	if b <= 0 {
		return 0
	}
	return (a + b - 1) / b
}

// allContainers are a pod's init containers, then its containers.
func allContainers(pod *corev1.Pod) []*corev1.Container {
	var all []*corev1.Container
	for i := range pod.Spec.InitContainers {
		all = append(all, &pod.Spec.InitContainers[i])
	}
	for i := range pod.Spec.Containers {
		all = append(all, &pod.Spec.Containers[i])
	}
	return all
}

// everyContainer are these and the ephemeral ones which kubectl debug adds to a running pod.
func everyContainer(pod *corev1.Pod) []*corev1.Container {
	all := allContainers(pod)
	for i := range pod.Spec.EphemeralContainers {
		all = append(all, (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return all
}

// ephemeral finds an ephemeral container by its name.
func ephemeral(pod *corev1.Pod, name string) *corev1.EphemeralContainer {
	for i := range pod.Spec.EphemeralContainers {
		if pod.Spec.EphemeralContainers[i].Name == name {
			return &pod.Spec.EphemeralContainers[i]
		}
	}
	return nil
}

// isSidecar tells an init container which keeps running beside the others (KEP-753).
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
