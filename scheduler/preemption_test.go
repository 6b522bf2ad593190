package scheduler

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func prio(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func started(minute int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.StartTime = &metav1.Time{Time: time.Date(2026, 1, 1, 12, minute, 0, 0, time.UTC)}
	}
}

func on(n int, pods ...*corev1.Pod) *NodeInfo { return newNodeInfo(node(n), pods) }

// TestPreempt: who has to go for a pod of priority 100 which wants 1.5 of 2 CPUs, as "node: victims", or
// why nobody has.
func TestPreempt(t *testing.T) {
	leaving := func(p *corev1.Pod) {
		p.DeletionTimestamp = &metav1.Time{}
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
	}
	guarded := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default"},
		Spec:       policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"guard": "yes"}}},
	}
	guard := func(p *corev1.Pod) { p.Labels["guard"] = "yes" }
	tests := []struct {
		name string
		pod  *corev1.Pod
		in   *Snapshot
		want string
	}{
		{
			"the only one which is less important", pod("a", prio(100), cpu("1500m")),
			snapshot(on(1, pod("low", cpu("1"))), on(2, pod("equal", cpu("1"), prio(100)))), "node-1: low",
		},
		{
			"no more than needed, the less important", pod("a", prio(100), cpu("1500m")),
			snapshot(on(1, pod("ten", cpu("500m"), prio(10)), pod("one", cpu("500m"), prio(1)))), "node-1: one",
		},
		{
			"no more than needed, of equals the one which started last", pod("a", prio(100), cpu("1500m")),
			snapshot(on(1, pod("young", cpu("500m"), started(9)), pod("old", cpu("500m"), started(1)))), "node-1: young",
		},
		{
			"the node whose most important victim matters least", pod("a", prio(100), cpu("1500m")),
			snapshot(on(1, pod("b", cpu("1"), prio(10))), on(2, pod("c", cpu("1"), prio(5)), pod("d", cpu("1"), prio(5)))), "node-2: c d",
		},
		{
			"fewer of the same priority", pod("a", prio(100), cpu("1500m")),
			snapshot(on(1, pod("b", cpu("1")), pod("c", cpu("1"))), on(2, pod("d", cpu("2")))), "node-2: d",
		},
		{
			"the one which started last", pod("a", prio(100), cpu("1500m")),
			snapshot(on(1, pod("b", cpu("1"), started(1))), on(2, pod("c", cpu("1"), started(2)))), "node-2: c",
		},
		{
			"a budget is kept if others can go", pod("a", prio(100), cpu("1500m")),
			withBudgets(snapshot(on(1, pod("guarded", cpu("500m"), guard), pod("free", cpu("500m"), prio(50)))), guarded), "node-1: free",
		},
		{
			"a node without broken budget, even if its victim is more important", pod("a", prio(100), cpu("1500m")),
			withBudgets(snapshot(on(1, pod("guarded", cpu("2"), guard)), on(2, pod("free", cpu("2"), prio(50)))), guarded), "node-2: free",
		},
		{
			"a host port", pod("a", prio(100), port8080), snapshot(on(1, pod("b", port8080), pod("c"))), "node-1: b",
		},
		{
			"anti-affinity", pod("a", prio(100), apart), snapshot(on(1, pod("b"), pod("c", func(p *corev1.Pod) { p.Labels["app"] = "db" }))), "node-1: b",
		},
		{
			"nobody is less important", pod("a", cpu("1500m")), snapshot(on(1, pod("b", cpu("1"))), on(2, pod("c", cpu("1")))),
			"0/2 nodes are available: 2 No preemption victims found for incoming pod.",
		},
		{
			"an empty node would be too small; a taint stays", pod("a", prio(100), cpu("3")),
			snapshot(on(1, pod("b", cpu("1"))), newNodeInfo(node(2, taint("dedicated")), nil)),
			"0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
		},
		{
			"the less important ones are too few", pod("a", prio(100), cpu("1500m")),
			snapshot(on(1, pod("b", cpu("200m")), pod("c", cpu("1"), prio(200)))), "0/1 nodes are available: 1 Insufficient cpu.",
		},
		{
			"it renounces", pod("a", prio(100), cpu("1500m"), func(p *corev1.Pod) { p.Spec.PreemptionPolicy = new(corev1.PreemptNever) }),
			snapshot(on(1, pod("b", cpu("1")))), "not eligible due to preemptionPolicy=Never.",
		},
		{
			"somebody leaves for it already", pod("a", prio(100), cpu("1500m"), func(p *corev1.Pod) { p.Status.NominatedNodeName = "node-1" }),
			snapshot(on(1, pod("b", cpu("1"), leaving)), on(2, pod("c", cpu("1")))), "not eligible due to terminating pod on the nominated node.",
		},
	}
	for _, test := range tests {
		feasible, why := Feasible(test.pod, test.in)
		if len(feasible) > 0 {
			t.Errorf("%s: it fits on %s without preemption", test.name, feasible[0].Node.Name)
			continue
		}
		way, got := Preempt(test.pod, test.in, why)
		if way != nil {
			got = way.Node.Node.Name + ":"
			for _, victim := range way.Victims {
				got += " " + victim.Name
			}
		}
		if got != test.want {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

func withBudgets(s *Snapshot, budgets ...*policyv1.PodDisruptionBudget) *Snapshot {
	s.Budgets = budgets
	return s
}

// TestRoomIsKept: for whom room was made, it is kept, but not from a more important pod.
func TestRoomIsKept(t *testing.T) {
	in := snapshot(on(1))
	in.Nominated = map[string][]*corev1.Pod{"node-1": {pod("coming", prio(100), cpu("1500m"))}}
	for _, test := range []struct {
		pod  *corev1.Pod
		fits bool
	}{
		{pod("less", prio(50), cpu("1")), false},
		{pod("equal", prio(100), cpu("1")), false},
		{pod("more", prio(200), cpu("1")), true},
		{pod("coming", prio(100), cpu("1500m")), true},
		{pod("small", cpu("500m")), true},
	} {
		feasible, why := Feasible(test.pod, in)
		if fits := len(feasible) > 0; fits != test.fits {
			t.Errorf("%s fits: %t (%s), want %t", test.pod.Name, fits, why.Error(), test.fits)
		}
	}
	chosen := pod("coming", func(p *corev1.Pod) { p.Status.NominatedNodeName = "node-2" })
	two := snapshot(on(1), on(2, pod("x")))
	if feasible, _ := Feasible(chosen, two); choose(chosen, feasible, two) != "node-2" {
		t.Error("a pod does not go where room was made for it")
	}
}

// TestNominationsFollowPods: the room is kept until the pod has arrived, or is gone, or gave it up.
func TestNominationsFollowPods(t *testing.T) {
	s := newState()
	s.setNode(node(1))
	a := pod("a")
	s.nominate(a, "node-1")
	if got := s.withNomination(a).Status.NominatedNodeName; got != "node-1" {
		t.Errorf("nominated %q, want node-1", got)
	}
	if got := s.snapshot().Nominated["node-1"]; len(got) != 1 || got[0].UID != a.UID {
		t.Errorf("the snapshot has %v", got)
	}
	bound := pod("a", func(p *corev1.Pod) { p.Spec.NodeName = "node-1" })
	s.setPod(bound)
	if got := s.snapshot().Nominated["node-1"]; len(got) != 0 {
		t.Errorf("still nominated after it arrived: %v", got)
	}
	s.nominate(a, "node-1")
	s.nominate(a, "")
	stale := pod("a", func(p *corev1.Pod) { p.Status.NominatedNodeName = "node-1" })
	if got := s.withNomination(stale).Status.NominatedNodeName; strings.TrimSpace(got) != "" {
		t.Errorf("still nominated after it gave up: %q", got)
	}
}

// TestWhatMayHelp: a pod is tried again only after a change which may help it.
func TestWhatMayHelp(t *testing.T) {
	full := snapshot(on(1, pod("b", cpu("1500m"))))
	for _, test := range []struct {
		name string
		pod  *corev1.Pod
		want change
	}{
		{"no room now", pod("a", cpu("1")), nodeChange | podLeft},
		{"too large for any node", pod("a", cpu("3")), nodeChange},
		{"no such node", pod("a", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} }), nodeChange},
		{"nobody to be near to", pod("a", near, func(p *corev1.Pod) { p.Labels = map[string]string{"app": "db"} }), nodeChange | podLeft | podArrived},
	} {
		in := full
		if test.want&podArrived != 0 {
			in = snapshot(on(1))
		}
		if _, why := Feasible(test.pod, in); why.helpful() != test.want {
			t.Errorf("%s: %b may help, want %b", test.name, why.helpful(), test.want)
		}
	}
}
