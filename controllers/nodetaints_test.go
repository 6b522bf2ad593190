package controllers

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestDesiredTaints(t *testing.T) {
	ready := func(status corev1.ConditionStatus) []corev1.NodeCondition {
		return []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}}
	}
	notReadyTaint := corev1.Taint{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule}
	own := corev1.Taint{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}
	tests := []struct {
		name       string
		has        []corev1.Taint
		conditions []corev1.NodeCondition
		cordoned   bool
		evict      bool
		want       []string
	}{
		{"just created, the kubelet has not reported", []corev1.Taint{notReadyTaint}, nil, false, true, []string{"node.kubernetes.io/not-ready:NoSchedule"}},
		{"becomes ready", []corev1.Taint{notReadyTaint, own}, ready("True"), false, true, []string{"dedicated:NoSchedule"}},
		{"not ready", []corev1.Taint{own}, ready("False"), false, true, []string{"dedicated:NoSchedule", "node.kubernetes.io/not-ready:NoSchedule", "node.kubernetes.io/not-ready:NoExecute"}},
		{"silent", nil, ready("Unknown"), false, true, []string{"node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"}},
		{"silent like all others", nil, ready("Unknown"), false, false, []string{"node.kubernetes.io/unreachable:NoSchedule"}},
		{"from not ready to silent", []corev1.Taint{notReadyTaint}, ready("Unknown"), false, false, []string{"node.kubernetes.io/unreachable:NoSchedule"}},
		{"cordoned", nil, ready("True"), true, true, []string{"node.kubernetes.io/unschedulable:NoSchedule"}},
		{"short of memory", nil, append(ready("True"), corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: "True"}), false, true, []string{"node.kubernetes.io/memory-pressure:NoSchedule"}},
	}
	for _, test := range tests {
		node := &corev1.Node{Spec: corev1.NodeSpec{Taints: test.has, Unschedulable: test.cordoned}, Status: corev1.NodeStatus{Conditions: test.conditions}}
		taints, changed := desiredTaints(node, test.evict, time.Now())
		if got := taintNames(taints); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if same := slices.Equal(taintNames(test.has), test.want); changed == same {
			t.Errorf("%s: changed is %t", test.name, changed)
		}
	}
}

func TestUntilEviction(t *testing.T) {
	now := time.Now()
	added := metav1.NewTime(now.Add(-100 * time.Second))
	unreachable := corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute, TimeAdded: &added}
	tolerate := func(seconds *int64) []corev1.Toleration {
		return []corev1.Toleration{{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}}
	}
	tests := []struct {
		name        string
		tolerations []corev1.Toleration
		wait        time.Duration
		evicted     bool
	}{
		{"not tolerated: at once", nil, 0, true},
		{"300 seconds, of which 100 are over", tolerate(new(int64(300))), 200 * time.Second, true},
		{"60 seconds are over", tolerate(new(int64(60))), -40 * time.Second, true},
		{"tolerated for ever", tolerate(nil), 0, false},
	}
	for _, test := range tests {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: test.tolerations}}
		wait, evicted := untilEviction(pod, []corev1.Taint{unreachable}, now)
		if wait != test.wait || evicted != test.evicted {
			t.Errorf("%s: wait %v, evicted %t; want %v, %t", test.name, wait, evicted, test.wait, test.evicted)
		}
	}
}

func TestJudge(t *testing.T) {
	tests := []struct {
		owners []ownerState
		want   verdict
	}{
		{nil, keepIt},
		{[]ownerState{ownerLives}, keepIt},
		{[]ownerState{ownerGone}, deleteIt},
		{[]ownerState{ownerWaiting}, deleteIt},
		{[]ownerState{ownerLives, ownerGone}, unlinkIt},
		{[]ownerState{ownerWaiting, ownerLives}, unlinkIt},
		{[]ownerState{ownerWaiting, ownerGone}, deleteIt},
	}
	for _, test := range tests {
		if got := judge(test.owners); got != test.want {
			t.Errorf("owners %v: verdict %v, want %v", test.owners, got, test.want)
		}
	}
}
