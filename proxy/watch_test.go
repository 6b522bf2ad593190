package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// watched is a proxier, what feeds it with each kind of object, and what counts.
type watched struct {
	*proxier
	feeds   map[string]*feed
	metrics *metrics
}

// newWatched has no API server: reflectors only read from their client.
func newWatched(t *testing.T) watched {
	t.Helper()
	client, err := kubernetes.NewForConfig(&rest.Config{Host: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	m := newMetrics()
	h := newHealth(time.Minute, bothFamilies, m)
	cfg := Config{Client: client, Node: "node-1", Backends: map[corev1.IPFamily]Backend{corev1.IPv4Protocol: make(clock)}, SyncPeriod: time.Minute}
	p, err := newProxier(cfg, corev1.IPv4Protocol, h, m)
	if err != nil {
		t.Fatal(err)
	}
	w := watched{p, map[string]*feed{}, m}
	for _, k := range kinds(cfg, h, m) {
		w.feeds[k.resource] = &feed{ctx: t.Context(), kind: k, read: reader("node-1"), proxiers: []*proxier{p}, listed: make(chan struct{})}
	}
	return w
}

// told gives all that has been sent to the model, and returns what there is now
// and whether anything has changed.
func (w watched) told() (ports []string, changed bool) {
	for len(w.events) > 0 {
		w.take(<-w.events)
	}
	changed = w.model.Changed()
	for _, p := range w.model.Snapshot().Ports {
		line := p.Name.String()
		for _, e := range p.ClusterEndpoints {
			line += " " + e.String()
		}
		ports = append(ports, line)
	}
	return ports, changed
}

func (w watched) list(t *testing.T, resource string, objects ...any) {
	t.Helper()
	if err := w.feeds[resource].Replace(objects, "1"); err != nil {
		t.Fatal(err)
	}
}

// labelled are a Service "s7" or its EndpointSlice, with a label which packets do
// not care for.
func labelled(resource string, number int, label string) runtime.Object {
	meta := metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", number), Labels: map[string]string{"colour": label}}
	if resource == "services" {
		return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: fmt.Sprint("10.96.0.", number), Ports: []corev1.ServicePort{{Name: "web", Port: 80, Protocol: corev1.ProtocolTCP}},
		}}
	}
	meta.Labels[discoveryv1.LabelServiceName] = meta.Name
	return &discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: new("web"), Port: new(int32(8080))}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprint("10.244.1.", number)}}},
	}
}

// TestListAgain: when a watch was interrupted for long, a list says what there
// is. What it lacks is gone, what it has is there, and what it repeats, or tells
// with another label, is no change: else each node wrote all its rules anew.
func TestListAgain(t *testing.T) {
	w := newWatched(t)
	one, two, three := "default/s1:web 10.244.1.1:8080", "default/s2:web 10.244.1.2:8080", "default/s3:web 10.244.1.3:8080"
	for _, step := range []struct {
		name    string
		numbers []int
		label   string
		want    []string
		changed bool
	}{
		{"the first list", []int{1, 2}, "red", []string{one, two}, true},
		{"the same again", []int{1, 2}, "red", []string{one, two}, false},
		{"with other labels", []int{1, 2}, "blue", []string{one, two}, false},
		{"one has gone, one has come", []int{2, 3}, "blue", []string{two, three}, true},
		{"nothing is left", nil, "", nil, true},
	} {
		for _, resource := range []string{"services", "endpointslices"} {
			var objects []any
			for _, number := range step.numbers {
				objects = append(objects, labelled(resource, number, step.label))
			}
			w.list(t, resource, objects...)
		}
		if ports, changed := w.told(); !slices.Equal(ports, step.want) || changed != step.changed {
			t.Errorf("%s: %q, changed %t; want %q, %t", step.name, ports, changed, step.want, step.changed)
		}
	}
	if len(w.model.services) > 0 {
		t.Errorf("of Services which are gone is left: %v", w.model.services)
	}
}

// TestEvents: an object comes, changes and goes, whatever comes first of a
// Service and its endpoints.
func TestEvents(t *testing.T) {
	w := newWatched(t)
	services, endpoints := w.feeds["services"], w.feeds["endpointslices"]
	for _, step := range []struct {
		name    string
		event   func(any) error
		object  runtime.Object
		want    string
		changed bool
	}{
		{"endpoints come first", endpoints.Add, labelled("endpointslices", 1, ""), "[]", true},
		{"the Service comes", services.Add, labelled("services", 1, ""), "[default/s1:web 10.244.1.1:8080]", true},
		{"a label changes", services.Update, labelled("services", 1, "red"), "[default/s1:web 10.244.1.1:8080]", false},
		{"endpoints go", endpoints.Delete, labelled("endpointslices", 1, "red"), "[default/s1:web]", true},
		{"the Service goes", services.Delete, labelled("services", 1, "red"), "[]", true},
	} {
		if err := step.event(step.object); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if ports, changed := w.told(); fmt.Sprint(ports) != step.want || changed != step.changed {
			t.Errorf("%s: %q, changed %t; want %s, %t", step.name, ports, changed, step.want, step.changed)
		}
	}
	page := httptest.NewRecorder()
	w.metrics.handler("iptables", nil).ServeHTTP(page, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if !strings.Contains(page.Body.String(), "\nkubeproxy_sync_proxy_rules_service_changes_total 3\n") {
		t.Error("the changes of Services are not counted as 3")
	}
	if err := services.Add(&corev1.Pod{}); err == nil {
		t.Error("a Pod is taken for a Service")
	}
}
