package controllers

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func testService(target intstr.IntOrString) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "svc"},
		Spec: corev1.ServiceSpec{
			ClusterIP: "10.96.0.99", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol}, Selector: map[string]string{"app": "web"},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: target}},
		},
	}
}

func testNode(name string) (*corev1.Node, error) {
	if name == "gone" {
		return nil, errors.New("not found")
	}
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: "z1"}}}, nil
}

func TestOnePodAsEndpoint(t *testing.T) {
	now := metav1.Now()
	tests := []struct {
		name                        string
		change                      func(*corev1.Pod)
		publish                     bool
		ready, serving, terminating bool
	}{
		{"ready", func(*corev1.Pod) {}, false, true, true, false},
		{"not ready", notReady, false, false, false, false},
		{"going away but still serving", func(p *corev1.Pod) { p.DeletionTimestamp = &now }, false, false, true, true},
		{"not ready, publishNotReadyAddresses", notReady, true, true, false, false},
	}
	for _, test := range tests {
		service := testService(intstr.FromInt32(9876))
		service.Spec.PublishNotReadyAddresses = test.publish
		groups, err := desiredEndpoints(service, []*corev1.Pod{testPod("a", test.change)}, testNode)
		if err != nil || len(groups) != 1 {
			t.Fatalf("%s: %d groups, error %v", test.name, len(groups), err)
		}
		c := groups[0].endpoints[0].Conditions
		if *c.Ready != test.ready || *c.Serving != test.serving || *c.Terminating != test.terminating {
			t.Errorf("%s: ready %t, serving %t, terminating %t; want %t %t %t", test.name, *c.Ready, *c.Serving, *c.Terminating, test.ready, test.serving, test.terminating)
		}
	}
}

func TestPodsWhichAreNoEndpoints(t *testing.T) {
	tests := map[string]func(*corev1.Pod){
		"no address yet":     func(p *corev1.Pod) { p.Status.PodIP = "" },
		"finished":           func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded },
		"on an unknown node": func(p *corev1.Pod) { p.Spec.NodeName = "gone" },
	}
	for name, change := range tests {
		if groups, _ := desiredEndpoints(testService(intstr.FromInt32(80)), []*corev1.Pod{testPod("a", change)}, testNode); len(groups) != 0 {
			t.Errorf("a pod which is %s became an endpoint", name)
		}
	}
}

func TestNamedPortWhichDiffersPerPod(t *testing.T) {
	port := func(number int32) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: number, Protocol: corev1.ProtocolTCP}}}}
		}
	}
	pods := []*corev1.Pod{testPod("a", port(8080)), testPod("b", port(9090)), testPod("c", port(8080)), testPod("d")}
	groups, _ := desiredEndpoints(testService(intstr.FromString("web")), pods, testNode)
	if len(groups) != 2 || len(groups[0].endpoints) != 2 || *groups[0].ports[0].Port != 8080 || *groups[1].ports[0].Port != 9090 {
		t.Errorf("want 8080 with a and c, 9090 with b, and d left out; got %+v", groups)
	}
}

// testSlices plays what the API server does with a plan.
func testSlices(plan slicePlan, existing []*discoveryv1.EndpointSlice, n *int) []*discoveryv1.EndpointSlice {
	after := map[types.UID]*discoveryv1.EndpointSlice{}
	for _, s := range existing {
		after[s.UID] = s
	}
	for _, s := range plan.delete {
		delete(after, s.UID)
	}
	for _, s := range plan.update {
		after[s.UID] = s
	}
	for _, s := range plan.create {
		*n++
		s.UID, s.Name = types.UID(fmt.Sprint(*n)), fmt.Sprint("web-", *n)
		after[s.UID] = s
	}
	var all []*discoveryv1.EndpointSlice
	for _, s := range after {
		all = append(all, s)
	}
	return all
}

func TestPlanSlicesWritesLittle(t *testing.T) {
	service := testService(intstr.FromInt32(9876))
	pods := func(from, to int) (list []*corev1.Pod) {
		for i := from; i < to; i++ {
			list = append(list, testPod(fmt.Sprintf("p%03d", i), func(p *corev1.Pod) { p.Status.PodIP = fmt.Sprintf("10.244.%d.%d", i/250, i%250+1) }))
		}
		return list
	}
	var existing []*discoveryv1.EndpointSlice
	names := 0
	steps := []struct {
		what                   string
		pods                   []*corev1.Pod
		create, update, delete int
		slices                 int
	}{
		{"no pods: an empty slice", nil, 1, 0, 0, 1},
		{"nothing changes", nil, 0, 0, 0, 1},
		{"the first pods: the empty slice is used", pods(0, 3), 0, 1, 0, 1},
		{"250 pods: the first slice is filled, two more", pods(0, 250), 2, 1, 0, 3},
		{"nothing changes", pods(0, 250), 0, 0, 0, 3},
		{"a pod goes: one slice is written", pods(1, 250), 0, 1, 0, 3},
		{"one goes, one comes: both in one write", append(pods(2, 250), pods(250, 251)...), 0, 1, 0, 3},
		{"all of the first slice go: it goes as well", pods(100, 250), 0, 0, 1, 2},
		{"all go: one empty slice stays", nil, 0, 1, 1, 1},
	}
	for _, step := range steps {
		wanted, err := desiredEndpoints(service, step.pods, testNode)
		if err != nil {
			t.Fatal(err)
		}
		plan := planSlices(sourceOf(service), wanted, existing)
		if len(plan.create) != step.create || len(plan.update) != step.update || len(plan.delete) != step.delete {
			t.Errorf("%s: %d creations, %d updates, %d deletions; want %d %d %d", step.what,
				len(plan.create), len(plan.update), len(plan.delete), step.create, step.update, step.delete)
		}
		existing = testSlices(plan, existing, &names)
		count := 0
		for _, s := range existing {
			count += len(s.Endpoints)
			if len(s.Endpoints) > maxEndpoints {
				t.Errorf("%s: a slice of %d", step.what, len(s.Endpoints))
			}
		}
		if count != len(step.pods) || len(existing) != step.slices {
			t.Errorf("%s: %d endpoints in %d slices, want %d in %d", step.what, count, len(existing), len(step.pods), step.slices)
		}
	}
}
