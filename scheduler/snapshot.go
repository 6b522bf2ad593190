package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Snapshot is the cluster as one scheduling decision sees it.
type Snapshot struct {
	Nodes []*NodeInfo // sorted by name
	// Namespaces has the labels of each namespace, for affinity terms with a namespaceSelector.
	Namespaces map[string]labels.Set
	// Services are those of all namespaces; replicas behind one Service are spread.
	Services []*corev1.Service
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
