package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// dns is a UDP Service whose endpoints are given as "ADDRESS CONDITIONS".
func dns(endpoints ...string) string {
	objects := `
apiVersion: v1
kind: Service
metadata: {name: dns, namespace: default}
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10]
  ports: [{protocol: UDP, port: 53}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dns-1, namespace: default, labels: {kubernetes.io/service-name: dns}}
addressType: IPv4
ports: [{name: "", protocol: UDP, port: 53}]
endpoints:
`
	for _, e := range endpoints {
		address, conditions, _ := strings.Cut(e, " ")
		objects += fmt.Sprintf("- {addresses: [%s], conditions: {%s}}\n", address, conditions)
	}
	if len(endpoints) == 0 {
		objects += "  []\n"
	}
	return objects
}

// TestStaleFlows: which conntrack entries go when a UDP Service changes.
func TestStaleFlows(t *testing.T) {
	const ready, ending, gone = "10.244.1.2 ready: true", "10.244.1.2 ready: false, serving: true, terminating: true", "10.244.1.2 ready: false, serving: false, terminating: true"
	const other = "10.244.2.2 ready: true"
	for _, tc := range []struct {
		name          string
		before, after string
		want          string
	}{
		{"nothing changes", dns(ready, other), dns(ready, other), ""},
		{"an endpoint ends but still answers", dns(ready, other), dns(ending, other), ""},
		{"then it answers no more", dns(ending, other), dns(gone, other), "10.96.0.10:53 → 10.244.1.2:53"},
		{"or is not there at once", dns(ready, other), dns(other), "10.96.0.10:53 → 10.244.1.2:53"},
		{"the last one goes", dns(ready), dns(), "10.96.0.10:53 → 10.244.1.2:53"},
		{"a first one comes", dns(), dns(ready), "10.96.0.10:53 → nowhere"},
		{"the Service is deleted", dns(ready), "", "10.96.0.10:53 → 10.244.1.2:53"},
		{"another port of the pod", dns(ready), strings.Replace(dns(ready), `ports: [{name: "", protocol: UDP, port: 53}]`, `ports: [{name: "", protocol: UDP, port: 54}]`, 1), "10.96.0.10:53 → 10.244.1.2:53"},
	} {
		got := proxy.StaleFlows(proxytest.Snapshot(t, tc.before), proxytest.Snapshot(t, tc.after))
		if text := strings.Join(got, ", "); text != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, text, tc.want)
		}
	}
}

// TestStaleFlowsAfterStart: what a proxy that was killed has left.
func TestStaleFlowsAfterStart(t *testing.T) {
	got := strings.Join(proxy.StaleFlows(nil, proxytest.Snapshot(t, dns("10.244.1.2 ready: true", "10.244.2.2 ready: true"))), ", ")
	if want := "10.96.0.10:53 → nowhere, 10.96.0.10:53 → anywhere but [10.244.1.2:53 10.244.2.2:53]"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := strings.Join(proxy.StaleFlows(nil, proxytest.Snapshot(t, dns())), ", "); got != "10.96.0.10:53 → anywhere but []" {
		t.Errorf("without endpoints: %q", got)
	}
}
