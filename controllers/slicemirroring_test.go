package controllers

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestWhichEndpointsAreMirrored(t *testing.T) {
	if !mirrored(&corev1.Endpoints{}) {
		t.Error("plain Endpoints are not mirrored")
	}
	skip := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelSkipMirror: "true"}}}
	lock := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{leaderAnnotation: "{}"}}}
	if mirrored(nil) || mirrored(skip) || mirrored(lock) {
		t.Error("mirrored what is absent, says skip-mirror, or is a lock")
	}
}

func TestMirroredGroups(t *testing.T) {
	ports := []corev1.EndpointPort{{Name: "db", Port: 5432, Protocol: corev1.ProtocolTCP}}
	endpoints := &corev1.Endpoints{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "db", UID: "e", Labels: map[string]string{"tier": "back"},
			Annotations: map[string]string{"note": "mine", corev1.LastAppliedConfigAnnotation: "{}", corev1.EndpointsLastChangeTriggerTime: "now"},
		},
		Subsets: []corev1.EndpointSubset{{
			Ports:             ports,
			Addresses:         []corev1.EndpointAddress{{IP: "192.168.56.1", Hostname: "main"}, {IP: "fd00::1"}, {IP: "nonsense"}},
			NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.168.56.2", NodeName: new("node-2")}},
		}, {
			Ports: []corev1.EndpointPort{{Port: 80, Protocol: corev1.ProtocolTCP}}, Addresses: []corev1.EndpointAddress{{IP: "192.168.56.3"}},
		}},
	}
	groups, dropped := mirroredGroups(endpoints)
	var got []string
	for _, group := range groups {
		for _, e := range group.endpoints {
			got = append(got, fmt.Sprintf("%s %s:%d ready=%t", group.family, e.Addresses[0], *group.ports[0].Port, *e.Conditions.Ready))
		}
	}
	want := "IPv4 192.168.56.1:5432 ready=true, IPv4 192.168.56.2:5432 ready=false, IPv6 fd00::1:5432 ready=true, IPv4 192.168.56.3:80 ready=true"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	if dropped.invalid != 1 || dropped.tooMany != 0 {
		t.Errorf("dropped %+v, want one invalid", dropped)
	}
	plan := planSlices(mirrorSource(endpoints), groups, nil)
	if len(plan.create) != 3 {
		t.Fatalf("%d slices, want one for each family and set of ports", len(plan.create))
	}
	first := plan.create[0]
	if first.Labels["tier"] != "back" || first.Labels[discoveryv1.LabelServiceName] != "db" || first.Labels[discoveryv1.LabelManagedBy] != mirrorManager {
		t.Errorf("labels %v", first.Labels)
	}
	if len(first.Annotations) != 1 || first.Annotations["note"] != "mine" || first.OwnerReferences[0].Kind != "Endpoints" {
		t.Errorf("annotations %v, owner %v", first.Annotations, first.OwnerReferences)
	}
	// Nothing changes, nothing is written; without subsets, nothing stays.
	for i, slice := range plan.create {
		slice.UID = types.UID(fmt.Sprint(i))
	}
	if again := planSlices(mirrorSource(endpoints), groups, plan.create); len(again.create)+len(again.update)+len(again.delete) != 0 {
		t.Errorf("the same again writes %+v", again)
	}
	if empty := planSlices(mirrorSource(endpoints), nil, plan.create); len(empty.delete) != 3 || len(empty.create) != 0 {
		t.Errorf("without subsets: %d deletions, %d creations; want 3 and 0", len(empty.delete), len(empty.create))
	}
}

func TestMirroringHasALimit(t *testing.T) {
	subset := corev1.EndpointSubset{}
	for i := range maxMirrored + 5 {
		subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1)})
	}
	endpoints := &corev1.Endpoints{Subsets: []corev1.EndpointSubset{subset}}
	groups, dropped := mirroredGroups(endpoints)
	if len(groups[0].endpoints) != maxMirrored || dropped.tooMany != 5 {
		t.Errorf("%d mirrored, %d dropped; want %d and 5", len(groups[0].endpoints), dropped.tooMany, maxMirrored)
	}
	if plan := planSlices(mirrorSource(endpoints), groups, nil); len(plan.create) != maxMirrored/maxEndpoints {
		t.Errorf("%d slices, want %d", len(plan.create), maxMirrored/maxEndpoints)
	}
}
