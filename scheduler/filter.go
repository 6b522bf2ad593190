package scheduler

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
)

// filter asks one question about a pod and a node. The answer is why the pod cannot run there.
type filter func(pod *corev1.Pod, node *NodeInfo) refusal

// refusal is a no, in upstream's words; the zero value is a yes.
type refusal struct {
	reasons []string
	final   bool // not even evicting other pods from the node would help
}

func (r refusal) fits() bool { return len(r.reasons) == 0 }

func refuse(reason string) refusal    { return refusal{reasons: []string{reason}} }
func neverFits(reason string) refusal { return refusal{reasons: []string{reason}, final: true} }

// filtersFor returns the questions asked of every node, in order. The first which says no ends the
// questions for that node: its answer is the one which the user reads.
func filtersFor(pod *corev1.Pod, snapshot *Snapshot) []filter {
	return []filter{
		unschedulable,
		nodeName,
		taints,
		nodeAffinity,
		hostPorts,
		resources,
		topologySpread(pod, snapshot), // spread.go
		podAffinity(pod, snapshot),    // affinity.go
	}
}

// Feasible splits the nodes: those on which the pod can run, and for the others the reasons.
func Feasible(pod *corev1.Pod, snapshot *Snapshot) (feasible []*NodeInfo, why Unfit) {
	filters := filtersFor(pod, snapshot)
	why = newUnfit(snapshot)
	for _, node := range snapshot.Nodes {
		answer := ask(filters, pod, node)
		if coming := snapshot.nominated(node.Node.Name, pod); answer.fits() && len(coming) > 0 {
			answer = fitsBeside(coming, pod, node, snapshot)
		}
		if answer.fits() {
			feasible = append(feasible, node)
			continue
		}
		why.add(answer.reasons...)
		if !answer.final {
			why.evictable = append(why.evictable, node)
		}
	}
	return feasible, why
}

// fitsBeside asks again as if the pods for which room is being made on a node were there already. Without
// this, the room would be taken by whoever comes first.
func fitsBeside(coming []*corev1.Pod, pod *corev1.Pod, node *NodeInfo, snapshot *Snapshot) refusal {
	crowded := newNodeInfo(node.Node, slices.Concat(node.Pods, coming))
	return ask(filtersFor(pod, snapshot.with(crowded)), pod, crowded)
}

func ask(filters []filter, pod *corev1.Pod, node *NodeInfo) refusal {
	for _, question := range filters {
		if answer := question(pod, node); !answer.fits() {
			return answer
		}
	}
	return refusal{}
}

// Unfit counts the nodes by the reasons why they cannot run a pod.
type Unfit struct {
	Nodes     int
	Reasons   map[string]int
	evictable []*NodeInfo // where the pod might run, if others left
}

func newUnfit(snapshot *Snapshot) Unfit {
	return Unfit{Nodes: len(snapshot.Nodes), Reasons: map[string]int{}}
}

func (u Unfit) add(reasons ...string) {
	for _, reason := range reasons {
		u.Reasons[reason]++
	}
}

// Error is the text of the event FailedScheduling, "0/3 nodes are available: 1 node(s) were
// unschedulable, 2 Insufficient cpu."
func (u Unfit) Error() string {
	if u.Nodes == 0 {
		return "no nodes available to schedule pods"
	}
	var parts []string
	for reason, nodes := range u.Reasons {
		parts = append(parts, fmt.Sprintf("%d %s", nodes, reason))
	}
	slices.Sort(parts)
	return fmt.Sprintf("0/%d nodes are available: %s.", u.Nodes, strings.Join(parts, ", "))
}

// helpful is what would have to happen before another try makes sense. A pod whose nodeSelector matches no
// node, or which wants more than an empty node has, need not be tried again because some other pod has ended.
func (u Unfit) helpful() change {
	helpful := nodeChange
	if len(u.evictable) > 0 {
		helpful |= podLeft
	}
	for reason := range u.Reasons {
		if strings.Contains(reason, "affinity rules") || strings.Contains(reason, "topology spread") {
			helpful |= podLeft | podArrived
		}
	}
	return helpful
}

const (
	reasonPods  = "Too many pods"
	reasonPorts = "node(s) didn't have free ports for the requested pod ports"
)

// unschedulable: `kubectl cordon` sets spec.unschedulable. A pod which tolerates the taint of the same
// name, such as one of a DaemonSet, may still come.
func unschedulable(pod *corev1.Pod, node *NodeInfo) refusal {
	taint := corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	if node.Node.Spec.Unschedulable && !tolerated(pod, &taint) {
		return neverFits("node(s) were unschedulable")
	}
	return refusal{}
}

func nodeName(pod *corev1.Pod, node *NodeInfo) refusal {
	if pod.Spec.NodeName != "" && pod.Spec.NodeName != node.Node.Name {
		return neverFits("node(s) didn't match the requested node name")
	}
	return refusal{}
}

// taints: a node says "not for everybody", and a pod may say "I do not mind". PreferNoSchedule is a matter
// of score.
func taints(pod *corev1.Pod, node *NodeInfo) refusal {
	for i := range node.Node.Spec.Taints {
		taint := &node.Node.Spec.Taints[i]
		hard := taint.Effect == corev1.TaintEffectNoSchedule || taint.Effect == corev1.TaintEffectNoExecute
		if hard && !tolerated(pod, taint) {
			return neverFits("node(s) had untolerated taint(s)")
		}
	}
	return refusal{}
}

func tolerated(pod *corev1.Pod, taint *corev1.Taint) bool {
	for i := range pod.Spec.Tolerations {
		if pod.Spec.Tolerations[i].ToleratesTaint(klog.Background(), taint, true) {
			return true
		}
	}
	return false
}

// nodeAffinity: spec.nodeSelector and spec.affinity.nodeAffinity.required…; both have to match.
func nodeAffinity(pod *corev1.Pod, node *NodeInfo) refusal {
	if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node.Node); err != nil || !match {
		return neverFits("node(s) didn't match Pod's node affinity/selector")
	}
	return refusal{}
}

// hostPorts: two pods cannot both have port 8080 of one node, unless on different addresses of it.
func hostPorts(pod *corev1.Pod, node *NodeInfo) refusal {
	wanted := portsOf(pod)
	if len(wanted) == 0 {
		return refusal{}
	}
	for _, other := range node.Pods {
		for _, taken := range portsOf(other) {
			if slices.ContainsFunc(wanted, taken.clashes) {
				return refuse(reasonPorts)
			}
		}
	}
	return refusal{}
}

type hostPort struct {
	ip       string // "0.0.0.0" for all addresses
	protocol corev1.Protocol
	port     int32
}

func (p hostPort) clashes(q hostPort) bool {
	return p.port == q.port && p.protocol == q.protocol && (p.ip == q.ip || p.ip == "0.0.0.0" || q.ip == "0.0.0.0")
}

func portsOf(pod *corev1.Pod) []hostPort {
	var ports []hostPort
	for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		for _, port := range container.Ports {
			if port.HostPort == 0 {
				continue
			}
			p := hostPort{port.HostIP, port.Protocol, port.HostPort}
			if p.ip == "" || p.ip == "::" {
				p.ip = "0.0.0.0"
			}
			if p.protocol == "" {
				p.protocol = corev1.ProtocolTCP
			}
			ports = append(ports, p)
		}
	}
	return ports
}
