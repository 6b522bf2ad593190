package scheduler

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// node has 2 CPUs, 4 GiB, room for 10 pods, and its number as zone.
func node(n int, change ...func(*corev1.Node)) *corev1.Node {
	object := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("node-", n), Labels: map[string]string{
			corev1.LabelHostname: fmt.Sprint("node-", n), corev1.LabelTopologyZone: fmt.Sprint("z", n),
		}},
		Status: corev1.NodeStatus{Allocatable: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("10"),
		}},
	}
	for _, f := range change {
		f(object)
	}
	return object
}

func pod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	object := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
	}
	for _, f := range change {
		f(object)
	}
	return object
}

func cpu(amount string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(amount)}
	}
}

func port8080(p *corev1.Pod) { p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: 8080}} }

func taint(key string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
}

func web(topology string) []corev1.PodAffinityTerm {
	return []corev1.PodAffinityTerm{{TopologyKey: topology, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
}

func near(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: web(corev1.LabelHostname)}}
}

func apart(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: web(corev1.LabelHostname)}}
}

func spread(p *corev1.Pod) {
	p.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelTopologyZone, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}},
	}}
}

// snapshot of nodes, each with its pods.
func snapshot(infos ...*NodeInfo) *Snapshot {
	return &Snapshot{Nodes: infos, Namespaces: map[string]labels.Set{}}
}

func TestWhyAPodFitsNowhere(t *testing.T) {
	db := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }
	tests := []struct {
		name string
		pod  *corev1.Pod
		in   *Snapshot
		want string // empty: it fits somewhere
	}{
		{"no nodes", pod("a"), snapshot(), "no nodes available to schedule pods"},
		{"an empty node", pod("a"), snapshot(newNodeInfo(node(1), nil)), ""},
		{"not enough CPU left", pod("a", cpu("1500m")), snapshot(newNodeInfo(node(1), []*corev1.Pod{pod("b", cpu("600m"))})), "0/1 nodes are available: 1 Insufficient cpu."},
		{"just enough CPU", pod("a", cpu("1400m")), snapshot(newNodeInfo(node(1), []*corev1.Pod{pod("b", cpu("600m"))})), ""},
		{
			"each node for its own reason", pod("a", cpu("3")),
			snapshot(newNodeInfo(node(1, taint("node.kubernetes.io/not-ready")), nil), newNodeInfo(node(2), nil), newNodeInfo(node(3), nil)),
			"0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.",
		},
		{
			"a cordoned node", pod("a"), snapshot(newNodeInfo(node(1, func(n *corev1.Node) { n.Spec.Unschedulable = true }), nil)),
			"0/1 nodes are available: 1 node(s) were unschedulable.",
		},
		{
			"a tolerated taint", pod("a", func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: corev1.TolerationOpExists}}
			}), snapshot(newNodeInfo(node(1, taint("dedicated")), nil)), "",
		},
		{
			"nodeSelector", pod("a", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), snapshot(newNodeInfo(node(1), nil)),
			"0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
		},
		{
			"a host port which is taken", pod("a", port8080), snapshot(newNodeInfo(node(1), []*corev1.Pod{pod("b", port8080)})),
			"0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
		},
		{
			"affinity to nobody there", pod("a", near, db), snapshot(newNodeInfo(node(1), nil)),
			"0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
		},
		{"affinity to one's own kind, the first of it", pod("a", near), snapshot(newNodeInfo(node(1), nil)), ""},
		{
			"anti-affinity", pod("a", apart), snapshot(newNodeInfo(node(1), []*corev1.Pod{pod("b")})),
			"0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules.",
		},
		{
			"anti-affinity of the pod which is there", pod("a"), snapshot(newNodeInfo(node(1), []*corev1.Pod{pod("b", apart, db)})),
			"0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
		},
		{
			"topology spread: z1 has one, z2 is empty but full of others", pod("a", spread, cpu("1")),
			snapshot(newNodeInfo(node(1), []*corev1.Pod{pod("b")}), newNodeInfo(node(2), []*corev1.Pod{pod("c", db, cpu("2"))})),
			"0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints.",
		},
		{
			"topology spread on a node without the label", pod("a", spread),
			snapshot(newNodeInfo(node(1, func(n *corev1.Node) { delete(n.Labels, corev1.LabelTopologyZone) }), nil)),
			"0/1 nodes are available: 1 node(s) didn't match pod topology spread constraints (missing required label).",
		},
	}
	for _, test := range tests {
		feasible, why := Feasible(test.pod, test.in)
		got := ""
		if len(feasible) == 0 {
			got = why.Error()
		}
		if got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

func TestTooManyPods(t *testing.T) {
	var ten []*corev1.Pod
	for i := range 10 {
		ten = append(ten, pod(fmt.Sprint("p", i)))
	}
	_, why := Feasible(pod("a"), snapshot(newNodeInfo(node(1), ten)))
	if got := why.Error(); got != "0/1 nodes are available: 1 Too many pods." {
		t.Error(got)
	}
}
