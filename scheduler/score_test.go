package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func ownedBy(owner string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{Kind: "ReplicaSet", Name: owner, UID: types.UID(owner), Controller: new(true)}}
	}
}

// schedulePods places pods one after the other and returns how many each node got.
func schedulePods(pods []*corev1.Pod, nodes ...*NodeInfo) map[string]int {
	count := map[string]int{}
	for _, p := range pods {
		s := snapshot(nodes...)
		feasible, _ := Feasible(p, s)
		chosen := Best(p, feasible, s)
		count[chosen.Node.Name]++
		for i, n := range nodes {
			if n == chosen {
				nodes[i] = newNodeInfo(n.Node, append(n.Pods, p))
			}
		}
	}
	return count
}

func TestThreeReplicasLandOnThreeNodes(t *testing.T) {
	system := []*corev1.Pod{pod("dns", cpu("1")), pod("dns-2", cpu("500m"))}
	tests := map[string][]*NodeInfo{
		"idle nodes":     {newNodeInfo(node(1), nil), newNodeInfo(node(2), nil), newNodeInfo(node(3), nil)},
		"one busy node":  {newNodeInfo(node(1), system), newNodeInfo(node(2), nil), newNodeInfo(node(3), nil)},
		"one small node": {newNodeInfo(node(1), nil), newNodeInfo(node(2, func(n *corev1.Node) { n.Status.Allocatable[corev1.ResourceCPU] = resource.MustParse("1") }), nil), newNodeInfo(node(3), nil)},
	}
	for name, nodes := range tests {
		var replicas []*corev1.Pod
		for i := range 3 {
			replicas = append(replicas, pod(fmt.Sprint("web-", i), ownedBy("web")))
		}
		if got := schedulePods(replicas, nodes...); got["node-1"] != 1 || got["node-2"] != 1 || got["node-3"] != 1 {
			t.Errorf("%s: %v, want one each", name, got)
		}
	}
}

func TestPodsWithoutOwnerSpreadAsWell(t *testing.T) {
	var pods []*corev1.Pod
	for i := range 6 {
		pods = append(pods, pod(fmt.Sprint("p", i)))
	}
	got := schedulePods(pods, newNodeInfo(node(1), nil), newNodeInfo(node(2), nil), newNodeInfo(node(3), nil))
	if got["node-1"] != 2 || got["node-2"] != 2 || got["node-3"] != 2 {
		t.Errorf("%v, want two each", got)
	}
}

func TestWishesDecide(t *testing.T) {
	wishes := map[string]func(*corev1.Pod){
		"preferred node affinity": func(p *corev1.Pod) {
			p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 10, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelTopologyZone, Operator: "In", Values: []string{"z3"}}}},
			}}}}
		},
		"preferred pod affinity": func(p *corev1.Pod) {
			term := web(corev1.LabelHostname)[0]
			term.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "cache"}}
			p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 10, PodAffinityTerm: term}}}}
		},
	}
	cache := pod("cache", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "cache"} })
	for name, wish := range wishes {
		s := snapshot(newNodeInfo(node(1), nil), newNodeInfo(node(2), nil), newNodeInfo(node(3), []*corev1.Pod{cache}))
		if got := Best(pod("a", wish), s.Nodes, s).Node.Name; got != "node-3" {
			t.Errorf("%s: %s, want node-3", name, got)
		}
	}
}
