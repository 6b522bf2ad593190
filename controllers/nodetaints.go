package controllers

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// taintRules say which condition of a node leads to which taint.
var taintRules = []struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	taint     string
	evicts    bool // NoExecute as well as NoSchedule
}{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady, true},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable, true},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure, false},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure, false},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure, false},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable, false},
}

// desiredTaints replaces those taints which follow from conditions and from spec.unschedulable, and leaves
// all others alone. A node whose kubelet has not reported yet keeps what it was created with. NoExecute
// taints note since when, and wait while evict is false.
func desiredTaints(node *corev1.Node, evict bool, now time.Time) (taints []corev1.Taint, changed bool) {
	var wanted []corev1.Taint
	managed := []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}}
	if node.Spec.Unschedulable {
		wanted = append(wanted, managed[0])
	}
	for _, rule := range taintRules {
		condition := nodeCondition(node, rule.condition)
		if condition == nil && rule.condition == corev1.NodeReady {
			continue // keep node.kubernetes.io/not-ready, which admission put there
		}
		holds := condition != nil && condition.Status == rule.status
		for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			if effect == corev1.TaintEffectNoExecute && !rule.evicts {
				continue
			}
			taint := corev1.Taint{Key: rule.taint, Effect: effect}
			managed = append(managed, taint)
			if holds && (effect == corev1.TaintEffectNoSchedule || evict) {
				wanted = append(wanted, taint)
			}
		}
	}
	for _, taint := range node.Spec.Taints {
		keep := slices.ContainsFunc(wanted, sameTaint(taint))
		if keep || !slices.ContainsFunc(managed, sameTaint(taint)) {
			taints = append(taints, taint)
		}
	}
	changed = len(taints) != len(node.Spec.Taints)
	for _, taint := range wanted {
		if !slices.ContainsFunc(taints, sameTaint(taint)) {
			if taint.Effect == corev1.TaintEffectNoExecute {
				taint.TimeAdded = &metav1.Time{Time: now}
			}
			taints, changed = append(taints, taint), true
		}
	}
	return taints, changed
}

func sameTaint(a corev1.Taint) func(corev1.Taint) bool {
	return func(b corev1.Taint) bool { return a.Key == b.Key && a.Effect == b.Effect }
}

func taintNames(taints []corev1.Taint) []string {
	var names []string
	for _, taint := range taints {
		names = append(names, taint.Key+":"+string(taint.Effect))
	}
	return names
}

// allSilent: no node at all is ready. Then it is more likely that the control plane is cut off than that
// every machine died, and evicting everything would be the worst answer.
func allSilent(node *corev1.Node, all []*corev1.Node) bool {
	return !nodeReady(node) && !slices.ContainsFunc(all, func(other *corev1.Node) bool { return other.Name != node.Name && nodeReady(other) })
}

// silentConditions are the conditions of a node which has fallen silent: what only the kubelet can know is
// unknown. It returns nil when the node says so already.
func silentConditions(node *corev1.Node, now time.Time) []corev1.NodeCondition {
	var conditions []corev1.NodeCondition
	for _, kind := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		before := nodeCondition(node, kind)
		switch {
		case before == nil:
			conditions = append(conditions, corev1.NodeCondition{
				Type: kind, Status: corev1.ConditionUnknown, Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: metav1.NewTime(now),
			})
		case before.Status != corev1.ConditionUnknown:
			unknown := *before
			unknown.Status, unknown.Reason, unknown.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			unknown.LastTransitionTime = metav1.NewTime(now)
			conditions = append(conditions, unknown)
		}
	}
	return conditions
}

func nodeCondition(node *corev1.Node, kind corev1.NodeConditionType) *corev1.NodeCondition {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == kind {
			return &node.Status.Conditions[i]
		}
	}
	return nil
}

func nodeReady(node *corev1.Node) bool {
	ready := nodeCondition(node, corev1.NodeReady)
	return ready != nil && ready.Status == corev1.ConditionTrue
}
