package scheduler

import (
	"cmp"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
)

// A pod which fits nowhere may take the place of less important ones. Which node loses which pods is decided
// here; evict.go carries it out.
//
//  1. On each node where it could help, imagine all pods of lower priority gone. Does the pod fit now?
//  2. If so, let them come back one by one, the most important first, as long as the pod still fits.
//     Those who do not come back are the victims.
//  3. Take the node whose victims hurt least.

const (
	reasonNoVictims = "No preemption victims found for incoming pod"
	reasonNoHelp    = "Preemption is not helpful for scheduling"
)

// Preemption is one way to make room.
type Preemption struct {
	Node       *NodeInfo
	Victims    []*corev1.Pod // the most important first
	violations int           // victims whose disruption budget allows no eviction
}

// Preempt finds the cheapest way to make room for a pod which fits nowhere. It returns nil and, in upstream's
// words, why, when there is none.
func Preempt(pod *corev1.Pod, snapshot *Snapshot, unfit Unfit) (*Preemption, string) {
	if reason := mayNotPreempt(pod, snapshot); reason != "" {
		return nil, reason
	}
	why := newUnfit(snapshot)
	var ways []*Preemption
	for _, node := range snapshot.Nodes {
		if !slices.Contains(unfit.evictable, node) {
			why.add(reasonNoHelp)
			continue
		}
		way, answer := makeRoom(pod, node, snapshot)
		if way == nil {
			why.add(answer.reasons...)
			continue
		}
		ways = append(ways, way)
	}
	if len(ways) == 0 {
		return nil, why.Error()
	}
	return slices.MinFunc(ways, leastHarm), ""
}

// mayNotPreempt: a pod can renounce, and one for which pods are leaving already waits for them.
func mayNotPreempt(pod *corev1.Pod, snapshot *Snapshot) string {
	if pod.Spec.PreemptionPolicy != nil && *pod.Spec.PreemptionPolicy == corev1.PreemptNever {
		return "not eligible due to preemptionPolicy=Never."
	}
	for _, node := range snapshot.Nodes {
		if node.Node.Name != pod.Status.NominatedNodeName {
			continue
		}
		for _, other := range node.Pods {
			if other.DeletionTimestamp != nil && priority(other) < priority(pod) && wasPreempted(other) {
				return "not eligible due to terminating pod on the nominated node."
			}
		}
	}
	return ""
}

func wasPreempted(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
	})
}

// makeRoom finds the fewest and least important pods of a node which have to go.
func makeRoom(pod *corev1.Pod, node *NodeInfo, snapshot *Snapshot) (*Preemption, refusal) {
	var stay, lower []*corev1.Pod
	for _, other := range node.Pods {
		if priority(other) < priority(pod) {
			lower = append(lower, other)
		} else {
			stay = append(stay, other)
		}
	}
	if len(lower) == 0 {
		return nil, refuse(reasonNoVictims)
	}
	coming := snapshot.nominated(node.Node.Name, pod)
	fits := func(others []*corev1.Pod) refusal {
		imagined := newNodeInfo(node.Node, others)
		answer := ask(filtersFor(pod, snapshot.with(imagined)), pod, imagined)
		if answer.fits() && len(coming) > 0 {
			answer = fitsBeside(coming, pod, imagined, snapshot)
		}
		return answer
	}
	if answer := fits(stay); !answer.fits() {
		return nil, answer
	}
	slices.SortFunc(lower, moreImportantFirst)
	guarded, free := splitByBudget(lower, snapshot.Budgets)
	way := &Preemption{Node: node}
	// Those with a budget come back first, so that it is kept if that is possible.
	for i, other := range slices.Concat(guarded, free) {
		if fits(append(slices.Clip(stay), other)).fits() {
			stay = append(stay, other)
			continue
		}
		way.Victims = append(way.Victims, other)
		if i < len(guarded) {
			way.violations++
		}
	}
	slices.SortFunc(way.Victims, moreImportantFirst)
	return way, refusal{}
}

// splitByBudget separates the pods whose eviction would break a PodDisruptionBudget. Each budget allows so
// many evictions; the most important pods use it up first.
func splitByBudget(pods []*corev1.Pod, budgets []*policyv1.PodDisruptionBudget) (guarded, free []*corev1.Pod) {
	allowed := make([]int32, len(budgets))
	for i, budget := range budgets {
		allowed[i] = budget.Status.DisruptionsAllowed
	}
	for _, pod := range pods {
		breaks := false
		for i, budget := range budgets {
			if !guards(budget, pod) {
				continue
			}
			if _, counted := budget.Status.DisruptedPods[pod.Name]; counted {
				continue // its eviction was granted already
			}
			allowed[i]--
			breaks = breaks || allowed[i] < 0
		}
		if breaks {
			guarded = append(guarded, pod)
		} else {
			free = append(free, pod)
		}
	}
	return guarded, free
}

func guards(budget *policyv1.PodDisruptionBudget, pod *corev1.Pod) bool {
	selector := selectorOf(budget.Spec.Selector)
	return budget.Namespace == pod.Namespace && len(pod.Labels) > 0 && !selector.Empty() && selector.Matches(labels.Set(pod.Labels))
}

// leastHarm compares two ways to make room by these questions, in order:
//
//  1. fewer broken budgets?
//  2. is the most important victim less important?
//  3. are the victims together less important?
//  4. fewer victims?
//  5. has the most important victim been running for a shorter time?
func leastHarm(a, b *Preemption) int {
	return cmp.Or(
		cmp.Compare(a.violations, b.violations),
		cmp.Compare(a.highest(), b.highest()),
		cmp.Compare(a.sum(), b.sum()),
		cmp.Compare(len(a.Victims), len(b.Victims)),
		b.oldest().Compare(a.oldest().Time),
	)
}

// highest is the priority of the most important victim; without victims (a pod has gone meanwhile) nothing
// could be better.
func (p *Preemption) highest() int32 {
	if len(p.Victims) == 0 {
		return math.MinInt32
	}
	return priority(p.Victims[0])
}

// sum counts from the lowest possible priority on, so that also many victims of negative priority add up.
func (p *Preemption) sum() (total int64) {
	for _, victim := range p.Victims {
		total += int64(priority(victim)) - math.MinInt32
	}
	return total
}

// oldest is when the longest-running of the most important victims started.
func (p *Preemption) oldest() metav1.Time {
	oldest := metav1.Time{}
	for _, victim := range p.Victims {
		start := startOf(victim)
		if priority(victim) == p.highest() && (oldest.IsZero() || start.Before(&oldest)) {
			oldest = start
		}
	}
	return oldest
}

func moreImportantFirst(a, b *corev1.Pod) int {
	started := startOf(a)
	return cmp.Or(cmp.Compare(priority(b), priority(a)), started.Compare(startOf(b).Time))
}

func startOf(pod *corev1.Pod) metav1.Time {
	if pod.Status.StartTime != nil {
		return *pod.Status.StartTime
	}
	return pod.CreationTimestamp
}

func priority(pod *corev1.Pod) int32 { return corev1helpers.PodPriority(pod) }
