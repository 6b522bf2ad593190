package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// constraint is one of spec.topologySpreadConstraints with the pods counted: how many matching pods are in
// each place (zone z1: 2, zone z2: 0).
type constraint struct {
	corev1.TopologySpreadConstraint
	selector labels.Selector
	counts   map[string]int
	self     int // 1 when the pod itself would be counted
}

// newConstraint counts over the nodes which are to be considered: those which have all topology labels,
// and, by default, match the pod's node affinity.
func newConstraint(pod *corev1.Pod, c corev1.TopologySpreadConstraint, all []corev1.TopologySpreadConstraint, snapshot *Snapshot) constraint {
	counted := constraint{TopologySpreadConstraint: c, selector: selectorOf(c.LabelSelector), counts: map[string]int{}}
	for _, key := range c.MatchLabelKeys {
		if value, ok := pod.Labels[key]; ok {
			counted.selector = withRequirement(counted.selector, key, value, false)
		}
	}
	if counted.selector.Matches(labels.Set(pod.Labels)) {
		counted.self = 1
	}
	for _, node := range snapshot.Nodes {
		if !hasTopologies(node, all) || !considered(pod, c, node) {
			continue
		}
		place, _ := node.topology(c.TopologyKey)
		counted.counts[place] += matchingPods(pod.Namespace, counted.selector, node)
	}
	return counted
}

func hasTopologies(node *NodeInfo, constraints []corev1.TopologySpreadConstraint) bool {
	for _, c := range constraints {
		if _, ok := node.topology(c.TopologyKey); !ok {
			return false
		}
	}
	return true
}

func considered(pod *corev1.Pod, c corev1.TopologySpreadConstraint, node *NodeInfo) bool {
	if c.NodeAffinityPolicy == nil || *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyHonor {
		if match, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node.Node); err != nil || !match {
			return false
		}
	}
	return c.NodeTaintsPolicy == nil || *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyIgnore || taints(pod, node).fits()
}

func matchingPods(namespace string, selector labels.Selector, node *NodeInfo) int {
	count := 0
	for _, other := range node.Pods {
		if other.Namespace == namespace && other.DeletionTimestamp == nil && selector.Matches(labels.Set(other.Labels)) {
			count++
		}
	}
	return count
}

// least is the count of the emptiest place; with fewer places than minDomains it is 0, as if the missing
// ones were there and empty.
func (c constraint) least() int {
	if c.MinDomains != nil && len(c.counts) < int(*c.MinDomains) {
		return 0
	}
	least := math.MaxInt
	for _, count := range c.counts {
		least = min(least, count)
	}
	if least == math.MaxInt {
		return 0
	}
	return least
}

// topologySpread refuses nodes in places which would be ahead of the emptiest by more than maxSkew.
func topologySpread(pod *corev1.Pod, snapshot *Snapshot) filter {
	var hard []corev1.TopologySpreadConstraint
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable == corev1.DoNotSchedule {
			hard = append(hard, c)
		}
	}
	var counted []constraint
	for _, c := range hard {
		counted = append(counted, newConstraint(pod, c, hard, snapshot))
	}
	return func(_ *corev1.Pod, node *NodeInfo) refusal {
		for _, c := range counted {
			place, ok := node.topology(c.TopologyKey)
			if !ok {
				return neverFits("node(s) didn't match pod topology spread constraints (missing required label)")
			}
			if c.counts[place]+c.self-c.least() > int(c.MaxSkew) {
				return refuse("node(s) didn't match pod topology spread constraints")
			}
		}
		return refusal{}
	}
}
