package controllers

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// testPod runs on a node and is ready, both for an hour.
func testPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	hourAgo := metav1.NewTime(time.Now().Add(-time.Hour))
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name), CreationTimestamp: hourAgo},
		Spec:       corev1.PodSpec{NodeName: "node-1"},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.1.2", Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: hourAgo},
		}},
	}
	for _, f := range change {
		f(pod)
	}
	return pod
}

func notReady(p *corev1.Pod)   { p.Status.Conditions[0].Status = corev1.ConditionFalse }
func pendingPod(p *corev1.Pod) { p.Status.Phase = corev1.PodPending; notReady(p) }
func unassigned(p *corev1.Pod) { p.Spec.NodeName = ""; pendingPod(p) }
func cheap(p *corev1.Pod)      { p.Annotations = map[string]string{corev1.PodDeletionCost: "-10"} }
func onNode2(p *corev1.Pod)    { p.Spec.NodeName = "node-2" }
func restarted(p *corev1.Pod) {
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 5}}
}
func freshReady(p *corev1.Pod) { p.Status.Conditions[0].LastTransitionTime = metav1.Now() }
func young(p *corev1.Pod)      { p.CreationTimestamp = metav1.NewTime(time.Now().Add(-time.Second)) }

func TestPodsToDelete(t *testing.T) {
	tests := []struct {
		why    string
		victim func(*corev1.Pod)
		other  func(*corev1.Pod)
	}{
		{"a pod without node before one which is pending on a node", unassigned, pendingPod},
		{"a pending pod before a running one", pendingPod, notReady},
		{"one which is not ready before a ready one", notReady, cheap},
		{"the cheaper one", cheap, freshReady},
		{"the one which is ready since a moment ago", freshReady, restarted},
		{"the one which restarted", restarted, young},
		{"the younger one", young, func(*corev1.Pod) {}},
	}
	for _, test := range tests {
		victim, other := testPod("victim", test.victim), testPod("other", test.other)
		for _, pods := range [][]*corev1.Pod{{victim, other}, {other, victim}} {
			if got := podsToDelete(pods, nil, 1, time.Now()); got[0] != victim {
				t.Errorf("deleted the wrong pod; want %s", test.why)
			}
		}
	}
	crowd := []*corev1.Pod{testPod("a"), testPod("b"), testPod("c", onNode2)}
	if got := podsToDelete(crowd, crowd, 1, time.Now()); got[0].Spec.NodeName != "node-1" {
		t.Error("deleted from node-2; want one of the two which share node-1")
	}
}
