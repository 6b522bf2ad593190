package controllers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func never(*corev1.Pod) bool { return false }

// daemonSet makes a set whose pods are replaced at most unavailable (or surge) at a time.
func daemonSet(unavailable, surge int32) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "ds", Namespace: "default", UID: "ds", Generation: 3},
		Spec: appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
			Type: appsv1.RollingUpdateDaemonSetStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDaemonSet{
				MaxUnavailable: new(intstr.FromInt32(unavailable)), MaxSurge: new(intstr.FromInt32(surge)),
			},
		}},
	}
}

// daemonPods reads "node-1:old node-2:new! node-3:failed": version and state of pods, ! for not ready.
func daemonPods(text string) []*corev1.Pod {
	var pods []*corev1.Pod
	for i, word := range strings.Fields(text) {
		node, state, _ := strings.Cut(word, ":")
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: word, UID: types.UID(fmt.Sprint(i)), Labels: map[string]string{appsv1.ControllerRevisionHashLabelKey: strings.TrimSuffix(state, "!")},
			CreationTimestamp: metav1.Unix(int64(i), 0),
		}}
		pod.Spec.NodeName, pod.Status.Phase = node, corev1.PodRunning
		if state == "failed" {
			pod.Status.Phase = corev1.PodFailed
		}
		if !strings.HasSuffix(state, "!") {
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		}
		pods = append(pods, pod)
	}
	return pods
}

func TestDaemonPlan(t *testing.T) {
	for _, c := range []struct {
		name               string
		unavailable, surge int32
		pods               string
		create, remove     string
	}{
		{"every node gets a pod", 1, 0, "", "node-1 node-2 node-3", ""},
		{"one node lacks its pod", 1, 0, "node-1:new node-3:new", "node-2", ""},
		{"two of a version on one node: the older stays", 1, 0, "node-1:new node-1:new node-2:new node-3:new", "", "node-1:new"},
		{"a failed pod is removed before it is replaced", 1, 0, "node-1:failed node-2:new node-3:new", "", "node-1:failed"},
		{"rolling: one node at a time", 1, 0, "node-1:old node-2:old node-3:old", "", "node-1:old"},
		{"rolling: waits for the new pod", 1, 0, "node-1:new! node-2:old node-3:old", "", ""},
		{"rolling: what does not serve goes at once", 1, 0, "node-1:new! node-2:old! node-3:old", "", "node-2:old!"},
		{"rolling: two at a time", 2, 0, "node-1:old node-2:old node-3:old", "", "node-1:old node-2:old"},
		{"surge: the new pod comes first", 0, 1, "node-1:old node-2:old node-3:old", "node-1", ""},
		{"surge: the old one waits", 0, 1, "node-1:old node-1:new! node-2:old node-3:old", "", ""},
		{"surge: and goes", 0, 1, "node-1:old node-1:new node-2:old node-3:old", "", "node-1:old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var nodes []*corev1.Node
			for i := range 3 {
				nodes = append(nodes, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("node-%d", i+1)}})
			}
			plan := planDaemons(daemonSet(c.unavailable, c.surge), nodes, daemonPods(c.pods), "new", never, time.Unix(1000, 0))
			var removed []string
			for _, pod := range plan.remove {
				removed = append(removed, pod.Name)
			}
			slices.Sort(removed)
			if got := strings.Join(plan.create, " "); got != c.create {
				t.Errorf("creates %q, want %q", got, c.create)
			}
			if got := strings.Join(removed, " "); got != c.remove {
				t.Errorf("removes %q, want %q", got, c.remove)
			}
		})
	}
}

func TestDaemonFits(t *testing.T) {
	taint := func(key string, effect corev1.TaintEffect) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"disk": "ssd"}}, Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key, Effect: effect}}}}
	}
	selecting := daemonSet(1, 0)
	selecting.Spec.Template.Spec.NodeSelector = map[string]string{"disk": "hdd"}
	for _, c := range []struct {
		name      string
		set       *appsv1.DaemonSet
		node      *corev1.Node
		run, stay bool
	}{
		{"cordoned", daemonSet(1, 0), taint(corev1.TaintNodeUnschedulable, corev1.TaintEffectNoSchedule), true, true},
		{"unreachable", daemonSet(1, 0), taint(corev1.TaintNodeUnreachable, corev1.TaintEffectNoExecute), true, true},
		{"own NoSchedule", daemonSet(1, 0), taint("mine", corev1.TaintEffectNoSchedule), false, true},
		{"own NoExecute", daemonSet(1, 0), taint("mine", corev1.TaintEffectNoExecute), false, false},
		{"preference", daemonSet(1, 0), taint("mine", corev1.TaintEffectPreferNoSchedule), true, true},
		{"selector", selecting, taint("mine", corev1.TaintEffectPreferNoSchedule), false, false},
	} {
		if run, stay := daemonFits(c.set, c.node); run != c.run || stay != c.stay {
			t.Errorf("%s: run %v stay %v, want %v %v", c.name, run, stay, c.run, c.stay)
		}
	}
}
