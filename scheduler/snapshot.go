package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Snapshot is the cluster as one scheduling decision sees it.
type Snapshot struct {
	Nodes []*NodeInfo // sorted by name
	// Namespaces has the labels of each namespace, for affinity terms with a namespaceSelector.
	Namespaces map[string]labels.Set
	// Services are those of all namespaces; replicas behind one Service are spread.
	Services []*corev1.Service
	// Nominated are, by node, the pods for which others were evicted there, and which have not arrived yet.
	Nominated map[string][]*corev1.Pod
	// Budgets say which pods should rather not be evicted.
	Budgets []*policyv1.PodDisruptionBudget
}

// with is the cluster as it would be with one node changed.
func (s *Snapshot) with(changed *NodeInfo) *Snapshot {
	other := *s
	other.Nodes = slices.Clone(s.Nodes)
	for i, node := range other.Nodes {
		if node.Node.Name == changed.Node.Name {
			other.Nodes[i] = changed
		}
	}
	return &other
}

// nominated are the pods on their way to a node which matter to pod: those of its own priority or higher.
func (s *Snapshot) nominated(node string, pod *corev1.Pod) []*corev1.Pod {
	var coming []*corev1.Pod
	for _, other := range s.Nominated[node] {
		if other.UID != pod.UID && priority(other) >= priority(pod) {
			coming = append(coming, other)
		}
	}
	return coming
}

// NodeInfo is a node and the pods which run there, or will.
type NodeInfo struct {
	Node *corev1.Node
	Pods []*corev1.Pod
	// Requested sums the requests of Pods: CPU in millicores, all else in its own unit (bytes, pieces).
	Requested map[corev1.ResourceName]int64
}

// newNodeInfo adds up what the pods on a node ask for.
func newNodeInfo(node *corev1.Node, pods []*corev1.Pod) *NodeInfo {
	info := &NodeInfo{Node: node, Pods: pods, Requested: map[corev1.ResourceName]int64{}}
	for _, pod := range pods {
		for name, amount := range podRequests(pod) {
			info.Requested[name] += amount
		}
	}
	return info
}

// allocatable is how much of a resource the node offers to pods.
func (n *NodeInfo) allocatable(name corev1.ResourceName) int64 {
	quantity, ok := n.Node.Status.Allocatable[name]
	if !ok {
		return 0
	}
	return inUnits(name, quantity)
}

// topology returns the node's value of a topology label: the zone z1 for topology.kubernetes.io/zone.
func (n *NodeInfo) topology(key string) (string, bool) {
	value, ok := n.Node.Labels[key]
	return value, ok
}
