package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// balanced is a LoadBalancer Service of policy Local, with endpoints "NODE
// CONDITIONS".
func balanced(endpoints ...string) string {
	objects := `
apiVersion: v1
kind: Service
metadata: {name: simpleservice, namespace: default}
spec:
  type: LoadBalancer
  clusterIP: 10.96.28.255
  clusterIPs: [10.96.28.255]
  externalTrafficPolicy: Local
  healthCheckNodePort: 31234
  ports: [{protocol: TCP, port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: simpleservice-1, namespace: default, labels: {kubernetes.io/service-name: simpleservice}}
addressType: IPv4
ports: [{name: "", protocol: TCP, port: 8080}]
endpoints:
`
	for i, e := range endpoints {
		node, conditions, _ := strings.Cut(e, " ")
		objects += fmt.Sprintf("- {addresses: [10.244.1.%d], nodeName: %s, conditions: {%s}}\n", i+2, node, conditions)
	}
	return objects
}

const ownNamespace = "/proc/thread-self/ns/net"

// nothing is a backend for tests of what is not rules.
type nothing struct{}

func (nothing) Sync(context.Context, *proxy.Snapshot) error { return nil }
func (nothing) Check(context.Context) (bool, error)         { return true, nil }
func (nothing) Cleanup(context.Context) error               { return nil }

// TestHealthCheckNodePort: answers as kube-proxy gave them.
func TestHealthCheckNodePort(t *testing.T) {
	proxytest.Node(t)
	healthy := true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	applier := proxy.NewApplier(corev1.IPv4Protocol, nothing{}, proxy.NewHealthChecks(nil, func() bool { return healthy }))
	for _, tc := range []struct {
		name    string
		objects string
		healthy bool
		code    int
		local   string
	}{
		{"one local and one remote endpoint", balanced("node-1 ready: true", "node-2 ready: true"), true, 200, "1"},
		{"two local endpoints", balanced("node-1 ready: true", "node-1 ready: true"), true, 200, "2"},
		{"a local one of a port which the Service has no more", strings.Replace(balanced("node-1 ready: true"), `{name: "",`, `{name: "old",`, 1), true, 200, "1"},
		{"no local endpoint", balanced("node-2 ready: true"), true, 503, "0"},
		{"a local one which ends", balanced("node-1 ready: false, serving: true, terminating: true", "node-2 ready: true"), true, 503, "0"},
		{"the proxy does not keep up", balanced("node-1 ready: true"), false, 503, "1"},
	} {
		healthy = tc.healthy
		if err := applier.Apply(ctx, proxytest.Snapshot(t, tc.objects)); err != nil {
			t.Fatal(err)
		}
		response, body := fetch(t, "127.0.0.1:31234", "/healthz")
		want := fmt.Sprintf("{\n\t\"service\": {\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"simpleservice\"\n\t},\n\t\"localEndpoints\": %s,\n\t\"serviceProxyHealthy\": %v\n}", tc.local, tc.healthy)
		if response.StatusCode != tc.code || body != want {
			t.Errorf("%s: %d %s, want %d %s", tc.name, response.StatusCode, body, tc.code, want)
		}
		if got := response.Header.Get("X-Load-Balancing-Endpoint-Weight"); got != tc.local {
			t.Errorf("%s: weight %s, want %s", tc.name, got, tc.local)
		}
	}
	if err := applier.Apply(ctx, proxytest.Snapshot(t, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := netns.Dial(ctx, ownNamespace, "tcp", "127.0.0.1:31234"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("after the Service is deleted: %v", err)
	}
}

// fetch asks from the test's own namespace.
func fetch(t *testing.T, address, path string) (*http.Response, string) {
	t.Helper()
	conn, err := netns.Dial(t.Context(), ownNamespace, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := request.Write(conn); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := io.Copy(&body, response.Body); err != nil {
		t.Fatal(err)
	}
	return response, body.String()
}
