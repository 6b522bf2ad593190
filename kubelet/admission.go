package kubelet

import (
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	podresource "k8s.io/component-helpers/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// room is what a node looks at before it takes a pod. The scheduler has looked already, but not every pod
// comes through it: spec.nodeName and static pods do not, and two schedulers may give away the same room.
type room struct {
	node        *corev1.Node
	allocatable corev1.ResourceList
	appArmor    bool
	pods        []*corev1.Pod // which the node has taken and which have not ended
}

// refuses tells why the node does not take a pod, nil when it does; the first reason counts, in
// upstream's order and words.
func (r room) refuses(pod *corev1.Pod, static bool) *podFailure {
	for _, reason := range []*podFailure{r.system(pod), r.resources(pod), r.affinity(pod), r.hostPorts(pod)} {
		if reason != nil {
			return reason
		}
	}
	if !static {
		return r.taints(pod)
	}
	return nil
}

// system is what the node's operating system is and can do.
func (r room) system(pod *corev1.Pod) *podFailure {
	if pod.Spec.OS != nil && pod.Spec.OS.Name != corev1.Linux {
		return rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
	}
	if wantsAppArmor(pod) && !r.appArmor {
		return rejection("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
	}
	return nil
}

func wantsAppArmor(pod *corev1.Pod) bool {
	asked := func(profile *corev1.AppArmorProfile) bool {
		return profile != nil && profile.Type != corev1.AppArmorProfileTypeUnconfined
	}
	if s := pod.Spec.SecurityContext; s != nil && asked(s.AppArmorProfile) {
		return true
	}
	return slices.ContainsFunc(allContainers(pod), func(c *corev1.Container) bool {
		return c.SecurityContext != nil && asked(c.SecurityContext.AppArmorProfile)
	})
}

// hasAppArmor tells whether the kernel runs with AppArmor.
func hasAppArmor() bool {
	enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled")
	return err == nil && strings.HasPrefix(string(enabled), "Y")
}

func (r room) resources(pod *corev1.Pod) *podFailure {
	places := r.allocatable[corev1.ResourcePods]
	if have := int64(len(r.pods)); have+1 > places.Value() {
		return insufficient(corev1.ResourcePods, 1, have, places.Value())
	}
	requests := requestsOf(pod)
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
		request := amount(requests, name)
		if request == 0 {
			continue
		}
		used := int64(0)
		for _, other := range r.pods {
			used += amount(requestsOf(other), name)
		}
		if capacity := amount(r.allocatable, name); used+request > capacity {
			return insufficient(name, request, used, capacity)
		}
	}
	return nil
}

func requestsOf(pod *corev1.Pod) corev1.ResourceList {
	return podresource.PodRequests(pod, podresource.PodResourcesOptions{})
}

// amount is in bytes, and for CPUs in thousandths.
func amount(list corev1.ResourceList, name corev1.ResourceName) int64 {
	quantity := list[name]
	if name == corev1.ResourceCPU {
		return quantity.ScaledValue(resource.Milli)
	}
	return quantity.Value()
}

func insufficient(name corev1.ResourceName, requested, used, capacity int64) *podFailure {
	return rejection("OutOf"+string(name), fmt.Sprintf(
		"Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity))
}

func (r room) affinity(pod *corev1.Pod) *podFailure {
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(r.node); err == nil && match {
		return nil
	}
	return unfit("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
}

func (r room) hostPorts(pod *corev1.Pod) *podFailure {
	for _, mine := range portMappings(pod) {
		for _, other := range r.pods {
			if slices.ContainsFunc(portMappings(other), mine.clashes) {
				return unfit("NodePorts", "node(s) didn't have free ports for the requested pod ports")
			}
		}
	}
	return nil
}

func (p portMapping) clashes(q portMapping) bool {
	everywhere := func(ip string) bool { return ip == "" || ip == "0.0.0.0" }
	return p.HostPort == q.HostPort && p.Protocol == q.Protocol &&
		(p.HostIP == q.HostIP || everywhere(p.HostIP) || everywhere(q.HostIP))
}

func (r room) taints(pod *corev1.Pod) *podFailure {
	evicts := func(taint *corev1.Taint) bool { return taint.Effect == corev1.TaintEffectNoExecute }
	_, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), r.node.Spec.Taints, pod.Spec.Tolerations, evicts, true)
	if untolerated {
		return unfit("TaintToleration", "node(s) had taints that the pod didn't tolerate")
	}
	return nil
}

func unfit(predicate, why string) *podFailure {
	return rejection(predicate, fmt.Sprintf("Predicate %s failed: %s", predicate, why))
}

func rejection(reason, message string) *podFailure {
	return &podFailure{reason: reason, message: rejected + message, rejected: true}
}

// rejected begins the status message; the event does without.
const rejected = "Pod was rejected: "

// refuse tells why this node does not run a pod, in upstream's order. That a pod is new means that no earlier
// kubelet has taken it. The lock is held.
func (k *Kubelet) refuse(pod *corev1.Pod, static, isNew bool) *podFailure {
	if isNew {
		if reason := k.pressure.refuses(pod, static); reason != nil {
			return reason
		}
	}
	if reason := k.admitSysctls(pod); reason != nil || !isNew {
		return reason
	}
	return k.admit(pod, static)
}

// admitSysctls tells why a pod may not run here, were it new or not: status.startTime, by which a pod is taken
// for an old one, is only what somebody has written.
func (k *Kubelet) admitSysctls(pod *corev1.Pod) *podFailure {
	if why := forbiddenSysctl(pod, k.cfg.AllowedUnsafeSysctls); why != "" && !terminal(pod.Status.Phase) {
		return rejection("SysctlForbidden", why)
	}
	return nil
}

// admit tells why this node does not take a pod that is new to it. The lock is held.
func (k *Kubelet) admit(pod *corev1.Pod, static bool) *podFailure {
	r := room{node: k.node.known(), allocatable: k.allocatable, appArmor: hasAppArmor()}
	for _, w := range k.workers {
		if taken := w.occupies(); taken != nil {
			r.pods = append(r.pods, taken)
		}
	}
	return r.refuses(pod, static)
}

// occupies is the worker's pod, nil when that has ended, or nobody knows it any more.
func (w *worker) occupies() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.finished || w.failure != nil || terminal(w.pod.Status.Phase) || terminal(w.phase()) {
		return nil
	}
	return w.pod
}
