package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// scorer rates every node; a higher number is better. Numbers of one scorer are brought to 0…100 before
// they are added, so only their order and distances matter.
type scorer struct {
	weight int64
	rate   func(pod *corev1.Pod, node *NodeInfo, snapshot *Snapshot) int64
}

// scorers and their weights. Upstream has the same weights for taints (3), node affinity, topology spread
// and pod affinity (2) and resources (1). Replicas are spread with more weight than all these: on a lab of
// three nodes everybody expects three replicas on three nodes, whatever else runs there.
var scorers = []scorer{
	{3, preferredTaints},
	{2, preferredNodeAffinity},
	{2, preferredPodAffinity},
	{2, softTopologySpread},
	{4, spreadReplicas},
	{1, leastAllocated},
}

// Best returns the node with the highest score; of equals, the one with the fewest pods, then the first
// by name, so that a decision can be explained and repeated. feasible must not be empty.
func Best(pod *corev1.Pod, feasible []*NodeInfo, snapshot *Snapshot) *NodeInfo {
	total := Scores(pod, feasible, snapshot)
	best := 0
	for i := range feasible {
		if total[i] > total[best] || total[i] == total[best] && len(feasible[i].Pods) < len(feasible[best].Pods) {
			best = i
		}
	}
	return feasible[best]
}

// Scores rates the nodes, in their order.
func Scores(pod *corev1.Pod, feasible []*NodeInfo, snapshot *Snapshot) []int64 {
	total := make([]int64, len(feasible))
	for _, s := range scorers {
		raw := make([]int64, len(feasible))
		for i, node := range feasible {
			raw[i] = s.rate(pod, node, snapshot)
		}
		for i, value := range normalise(raw) {
			total[i] += s.weight * value
		}
	}
	return total
}

// normalise stretches ratings to 0…100. When all are equal, the scorer has nothing to say.
func normalise(raw []int64) []int64 {
	low, high := slices.Min(raw), slices.Max(raw)
	if low == high {
		return make([]int64, len(raw))
	}
	stretched := make([]int64, len(raw))
	for i, value := range raw {
		stretched[i] = (value - low) * 100 / (high - low)
	}
	return stretched
}

// preferredTaints counts the PreferNoSchedule taints which the pod does not tolerate.
func preferredTaints(pod *corev1.Pod, node *NodeInfo, _ *Snapshot) (score int64) {
	for i := range node.Node.Spec.Taints {
		taint := &node.Node.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule && !tolerated(pod, taint) {
			score--
		}
	}
	return score
}

func preferredNodeAffinity(pod *corev1.Pod, node *NodeInfo, _ *Snapshot) int64 {
	if pod.Spec.Affinity == nil || pod.Spec.Affinity.NodeAffinity == nil {
		return 0
	}
	terms, err := nodeaffinity.NewPreferredSchedulingTerms(pod.Spec.Affinity.NodeAffinity.PreferredDuringSchedulingIgnoredDuringExecution)
	if err != nil {
		return 0
	}
	return terms.Score(node.Node)
}

// preferredPodAffinity adds the weights of the pod's wishes for each pod in the same place, and those of
// the wishes which the pods there have about this one.
func preferredPodAffinity(pod *corev1.Pod, node *NodeInfo, snapshot *Snapshot) (score int64) {
	mine := preferredTerms(pod)
	for _, other := range snapshot.Nodes {
		for _, t := range mine {
			if samePlace(node, other, t.topology) {
				for _, neighbour := range other.Pods {
					if t.matches(neighbour, snapshot) {
						score += t.weight
					}
				}
			}
		}
		for _, neighbour := range other.Pods {
			if neighbour.Spec.Affinity == nil {
				continue
			}
			for _, t := range preferredTerms(neighbour) {
				if samePlace(node, other, t.topology) && t.matches(pod, snapshot) {
					score += t.weight
				}
			}
		}
	}
	return score
}

func samePlace(a, b *NodeInfo, key string) bool {
	x, ok := a.topology(key)
	y, also := b.topology(key)
	return ok && also && x == y
}

// softTopologySpread counts the matching pods in the node's place, for constraints with ScheduleAnyway.
func softTopologySpread(pod *corev1.Pod, node *NodeInfo, snapshot *Snapshot) (score int64) {
	for _, c := range pod.Spec.TopologySpreadConstraints {
		if c.WhenUnsatisfiable != corev1.ScheduleAnyway {
			continue
		}
		counted := newConstraint(pod, c, []corev1.TopologySpreadConstraint{c}, snapshot)
		place, ok := node.topology(c.TopologyKey)
		if !ok {
			score -= 1000 // after all labelled nodes
			continue
		}
		score -= int64(counted.counts[place])
	}
	return score
}

// spreadReplicas counts the pods on the node which are replicas of the same thing: they have the same
// owner, or are behind the same Service.
func spreadReplicas(pod *corev1.Pod, node *NodeInfo, snapshot *Snapshot) (score int64) {
	owner := metav1.GetControllerOfNoCopy(pod)
	var selectors []labels.Selector
	for _, service := range snapshot.Services {
		selector := labels.SelectorFromSet(service.Spec.Selector)
		if service.Namespace == pod.Namespace && len(service.Spec.Selector) > 0 && selector.Matches(labels.Set(pod.Labels)) {
			selectors = append(selectors, selector)
		}
	}
	for _, other := range node.Pods {
		if other.Namespace != pod.Namespace || other.DeletionTimestamp != nil {
			continue
		}
		theirs := metav1.GetControllerOfNoCopy(other)
		// A pod with the same owner is the nearer relative; a pod of the old version behind the same
		// Service counts, but less.
		switch {
		case owner != nil && theirs != nil && owner.UID == theirs.UID:
			score -= 10
		case slices.ContainsFunc(selectors, func(s labels.Selector) bool { return s.Matches(labels.Set(other.Labels)) }):
			score--
		}
	}
	return score
}

// leastAllocated is the share of CPU and memory which would still be free, in parts of a thousand. A pod
// without requests counts as 100 m and 200 MB, as upstream counts it, so that such pods spread as well.
func leastAllocated(pod *corev1.Pod, node *NodeInfo, _ *Snapshot) (score int64) {
	usual := map[corev1.ResourceName]int64{corev1.ResourceCPU: 100, corev1.ResourceMemory: 200 << 20}
	for name, assumed := range usual {
		capacity := node.allocatable(name)
		if capacity == 0 {
			continue
		}
		used := int64(0)
		for _, p := range append(slices.Clip(node.Pods), pod) {
			if request := podRequests(p)[name]; request > 0 {
				used += request
			} else {
				used += assumed
			}
		}
		score += max(0, capacity-used) * 1000 / capacity / 2
	}
	return score
}
