package eviction

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Observation is how much there is of something, and how much of that is left.
type Observation struct{ Available, Capacity resource.Quantity }

// Observations are of one moment. What could not be measured is not in them, and meets no threshold.
type Observations map[Signal]Observation

// State is what has to be remembered from one look at the node to the next; the zero value is that of a
// kubelet which has just started. Thresholds are known by their place in the policy.
type State struct {
	met        map[int]time.Time // since when
	due        map[int]bool      // met for longer than the grace, and not enough reclaimed since
	conditions map[corev1.NodeConditionType]time.Time
}

// Verdict is what follows from a look at the node.
type Verdict struct {
	Conditions []corev1.NodeConditionType // which the node has, in a fixed order
	Due        []Threshold                // for which something has to be done, the most urgent first
}

// Judge compares what is left with the thresholds.
func (p Policy) Judge(old State, seen Observations, now time.Time) (State, Verdict) {
	next := State{map[int]time.Time{}, map[int]bool{}, map[corev1.NodeConditionType]time.Time{}}
	var verdict Verdict
	for i, t := range p.Thresholds {
		if !t.met(seen, old.due[i]) {
			continue
		}
		since, before := old.met[i]
		if !before {
			since = now
		}
		next.met[i] = since
		next.conditions[t.Signal.Condition()] = now
		if now.Sub(since) >= t.Grace {
			next.due[i] = true
			verdict.Due = append(verdict.Due, t)
		}
	}
	// Memory first: without it nothing else can be done either.
	slices.SortStableFunc(verdict.Due, func(a, b Threshold) int { return urgency(a) - urgency(b) })
	for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		if _, ok := next.conditions[kind]; !ok {
			last, had := old.conditions[kind]
			if !had || now.Sub(last) >= p.Transition {
				continue
			}
			next.conditions[kind] = last
		}
		verdict.Conditions = append(verdict.Conditions, kind)
	}
	return next, verdict
}

func urgency(t Threshold) int {
	if t.Signal.Resource() == corev1.ResourceMemory {
		return 0
	}
	return 1
}

// met tells whether less than the threshold is left; with reclaim, less than that and MinReclaim.
func (t Threshold) met(seen Observations, reclaim bool) bool {
	now, ok := seen[t.Signal]
	if !ok {
		return false
	}
	least := t.Value.Of(now.Capacity)
	if reclaim {
		least.Add(t.MinReclaim.Of(now.Capacity))
	}
	return least.Cmp(now.Available) > 0
}

// Resolved tells whether no threshold is met any more, whatever its grace, and MinReclaim is free beside.
func (p Policy) Resolved(seen Observations) bool {
	return !slices.ContainsFunc(p.Thresholds, func(t Threshold) bool { return t.met(seen, true) })
}

// leastGrace is what every pod has, so that it sees the signal.
const leastGrace = time.Second

// PodGrace is how much time a pod has to end because of a threshold.
func (p Policy) PodGrace(t Threshold, pod *corev1.Pod) time.Duration {
	if t.Grace == 0 {
		return leastGrace
	}
	own := pod.Spec.TerminationGracePeriodSeconds
	switch {
	case own == nil:
		return max(leastGrace, p.MaxPodGrace)
	case p.MaxPodGrace < 0:
		return max(leastGrace, time.Duration(*own)*time.Second)
	default:
		return max(leastGrace, min(p.MaxPodGrace, time.Duration(*own)*time.Second))
	}
}
