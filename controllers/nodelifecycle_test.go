package controllers

import (
	"slices"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	"k8s.io/client-go/tools/cache"
)

// A node is alive as long as what it says moves; the times which it says do not matter.
func TestLastBeat(t *testing.T) {
	leases := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	h := &nodeHealth{leases: coordinationlisters.NewLeaseLister(leases).Leases(corev1.NamespaceNodeLease), beats: map[string]heartbeat{}}
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	renew := func(renewed time.Time) {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: "node-1"}}
		lease.Spec.RenewTime = &metav1.MicroTime{Time: renewed}
		if err := leases.Update(lease); err != nil {
			t.Fatal(err)
		}
	}
	report := func(heartbeat time.Time) {
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(heartbeat)}}
	}
	steps := []struct {
		name string
		does func()
		now  int // seconds
		want int
	}{
		{"seen for the first time", func() {}, 0, 0},
		{"says nothing", func() {}, 10, 0},
		{"renews its lease, by a clock that is a day late", func() { renew(at(-86400)) }, 20, 20},
		{"says nothing again", func() {}, 50, 20},
		{"reports its status instead", func() { report(at(55)) }, 55, 55},
		{"its clock is set back, and it renews", func() { renew(at(-90000)) }, 60, 60},
	}
	for _, step := range steps {
		step.does()
		if got := h.lastBeat(node, at(step.now)); !got.Equal(at(step.want)) {
			t.Errorf("%s: last beat %v, want %v", step.name, got, at(step.want))
		}
	}
}

func TestSilentConditions(t *testing.T) {
	now, created := time.Now(), metav1.NewTime(time.Now().Add(-time.Hour))
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, LastHeartbeatTime: created}
	}
	tests := []struct {
		name string
		has  []corev1.NodeCondition
		want []string
	}{
		{"has never said anything", nil, []string{
			"Ready Unknown NodeStatusNeverUpdated", "MemoryPressure Unknown NodeStatusNeverUpdated",
			"DiskPressure Unknown NodeStatusNeverUpdated", "PIDPressure Unknown NodeStatusNeverUpdated",
		}},
		{"was ready", []corev1.NodeCondition{
			condition(corev1.NodeReady, "True"), condition(corev1.NodeMemoryPressure, "False"),
			condition(corev1.NodeDiskPressure, "False"), condition(corev1.NodePIDPressure, "Unknown"),
			condition(corev1.NodeNetworkUnavailable, "False"), // not the kubelet's
		}, []string{"Ready Unknown NodeStatusUnknown", "MemoryPressure Unknown NodeStatusUnknown", "DiskPressure Unknown NodeStatusUnknown"}},
		{"is known to be silent", []corev1.NodeCondition{
			condition(corev1.NodeReady, "Unknown"), condition(corev1.NodeMemoryPressure, "Unknown"),
			condition(corev1.NodeDiskPressure, "Unknown"), condition(corev1.NodePIDPressure, "Unknown"),
		}, nil},
	}
	for _, test := range tests {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: created}, Status: corev1.NodeStatus{Conditions: test.has}}
		var got []string
		for _, c := range silentConditions(node, now) {
			got = append(got, string(c.Type)+" "+string(c.Status)+" "+c.Reason)
			if !c.LastTransitionTime.Time.Equal(now) || !c.LastHeartbeatTime.Equal(&created) {
				t.Errorf("%s: %s changed at %v, last heartbeat %v", test.name, c.Type, c.LastTransitionTime, c.LastHeartbeatTime)
			}
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestAllSilent(t *testing.T) {
	node := func(name string, ready corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}}}
	}
	tests := []struct {
		name   string
		node   *corev1.Node
		others []*corev1.Node
		want   bool
	}{
		{"the only node", node("a", "Unknown"), nil, true},
		{"one of two", node("a", "Unknown"), []*corev1.Node{node("b", "True")}, false},
		{"both", node("a", "Unknown"), []*corev1.Node{node("b", "False")}, true},
		{"it came back before the list tells", node("a", "True"), []*corev1.Node{node("b", "Unknown")}, false},
		{"it went before the list tells", node("a", "Unknown"), []*corev1.Node{node("a", "True"), node("b", "Unknown")}, true},
	}
	for _, test := range tests {
		if got := allSilent(test.node, test.others); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

func TestEvictsMore(t *testing.T) {
	node := func(taints ...string) *corev1.Node {
		n := &corev1.Node{}
		for _, key := range taints {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute})
		}
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "dedicated", Effect: corev1.TaintEffectNoSchedule})
		return n
	}
	tests := []struct {
		name    string
		was, is *corev1.Node
		want    bool
	}{
		{"found with a taint", nil, node(corev1.TaintNodeNotReady), true},
		{"found without", nil, node(), false},
		{"gets one", node(), node(corev1.TaintNodeNotReady), true},
		{"one for another", node(corev1.TaintNodeNotReady), node(corev1.TaintNodeUnreachable), true},
		{"the same", node(corev1.TaintNodeNotReady), node(corev1.TaintNodeNotReady), false},
		{"loses one of two", node(corev1.TaintNodeNotReady, "drain"), node("drain"), false},
		{"is deleted", node(corev1.TaintNodeNotReady), nil, false},
	}
	for _, test := range tests {
		if got := evictsMore(test.was, test.is); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

// Of several tolerations for one taint the least patient counts, and one for another taint not at all.
func TestPatience(t *testing.T) {
	taint := &corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: corev1.TaintEffectNoExecute}
	toleration := func(key string, seconds ...int64) corev1.Toleration {
		o := corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists}
		if len(seconds) > 0 {
			o.TolerationSeconds = &seconds[0]
		}
		return o
	}
	tests := []struct {
		name               string
		tolerations        []corev1.Toleration
		patience           time.Duration
		limited, tolerated bool
	}{
		{"none", nil, 0, false, false},
		{"of another taint", []corev1.Toleration{toleration(corev1.TaintNodeNotReady, 300)}, 0, false, false},
		{"of everything", []corev1.Toleration{toleration("")}, 0, false, true},
		{"two times", []corev1.Toleration{toleration(corev1.TaintNodeUnreachable, 300), toleration("", 60)}, time.Minute, true, true},
		{"for ever and for a time", []corev1.Toleration{toleration(""), toleration(corev1.TaintNodeUnreachable, 60)}, time.Minute, true, true},
		{"less than nothing", []corev1.Toleration{toleration("", -5)}, 0, true, true},
	}
	for _, test := range tests {
		patience, limited, tolerated := patienceWith(&corev1.Pod{Spec: corev1.PodSpec{Tolerations: test.tolerations}}, taint)
		if patience != test.patience || limited != test.limited || tolerated != test.tolerated {
			t.Errorf("%s: %v, %t, %t", test.name, patience, limited, tolerated)
		}
	}
}
