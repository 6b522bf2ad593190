package iptables

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"testing"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy/proxytest"
)

// service has port 80 and node port 30080 in front of the endpoints given.
func service(endpoints ...string) string {
	objects := `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ports: [{protocol: TCP, port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", protocol: TCP, port: 8080}]
endpoints:
`
	if len(endpoints) == 0 {
		return objects + "  []\n"
	}
	for _, e := range endpoints {
		objects += fmt.Sprintf("- {addresses: [%s], nodeName: node-1, conditions: {ready: true}}\n", e)
	}
	return objects
}

// pods are hosts on the test node's bridge, 10.244.1.2 and up; each answers on
// port 8080 with its own address and the one it sees.
func pods(t *testing.T, n int) []*nstest.Host {
	t.Helper()
	list := proxytest.Pods(t, n)
	for i, pod := range list {
		serve(t, pod, fmt.Sprintf("10.244.1.%d", i+2))
	}
	return list
}

func serve(t *testing.T, pod *nstest.Host, ip string) {
	t.Helper()
	listener, err := netns.Listen(context.Background(), pod.Path(), ip+":8080")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client, _, _ := strings.Cut(r.RemoteAddr, ":")
		fmt.Fprintf(w, "%s saw %s\n", ip, client)
	}))
	server.Listener.Close()
	server.Listener = listener
	server.Start()
	t.Cleanup(server.Close)
}

// fetch is one request over a connection of its own, with two seconds at most.
func fetch(host *nstest.Host, address string) (string, error) {
	out, err := host.Try("curl", "-s", "--max-time", "2", "http://"+address+"/")
	return strings.TrimSpace(out), err
}

func onNode(t *testing.T, address string) string {
	t.Helper()
	return strings.TrimSpace(nstest.Run(t, "curl", "-s", "--max-time", "2", "http://"+address+"/"))
}

func TestPacketsFindTheirWay(t *testing.T) {
	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	nstest.Run(t, "ip", "link", "set", "eth0", "up")
	nstest.Run(t, "ip", "link", "set", "wire", "up")
	nstest.Run(t, "ip", "route", "add", "10.96.0.0/12", "dev", "eth0") // a node needs some route for a ClusterIP
	hosts := pods(t, 2)
	node.sync(t, service("10.244.1.3"))

	// pod → ClusterIP: the other pod sees the client's own address
	if got, err := fetch(hosts[0], "10.96.0.20"); got != "10.244.1.3 saw 10.244.1.2" {
		t.Errorf("pod → ClusterIP: %q, %v", got, err)
	}
	// pod → itself through its Service: masqueraded, or it would answer itself
	if got, err := fetch(hosts[1], "10.96.0.20"); got != "10.244.1.3 saw 10.244.1.1" {
		t.Errorf("pod → its own Service: %q, %v", got, err)
	}
	// node → ClusterIP, node port on an address of the node and on 127.0.0.1
	for _, address := range []string{"10.96.0.20", "192.168.56.11:30080", "127.0.0.1:30080"} {
		if got := onNode(t, address); got != "10.244.1.3 saw 10.244.1.1" {
			t.Errorf("node → %s: %q", address, got)
		}
	}
	// pod → node port
	if got, err := fetch(hosts[0], "192.168.56.11:30080"); got != "10.244.1.3 saw 10.244.1.1" {
		t.Errorf("pod → node port: %q, %v", got, err)
	}
}

func TestNoEndpointIsRefusedAtOnce(t *testing.T) {
	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	nstest.Run(t, "ip", "link", "set", "eth0", "up")
	hosts := pods(t, 1)
	node.sync(t, service())
	for _, address := range []string{"10.96.0.20", "192.168.56.11:30080"} {
		_, err := fetch(hosts[0], address)
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != 7 { // curl: 7 refused, 28 timed out
			t.Errorf("%s without endpoints: %v, want a refusal", address, err)
		}
	}
}

// TestConnectionsSurviveARestart: a proxy which knows nothing writes
// everything again, while a client goes on asking.
func TestConnectionsSurviveARestart(t *testing.T) {
	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	hosts := pods(t, 3)
	objects := service("10.244.1.3", "10.244.1.4")
	node.sync(t, objects)
	done := make(chan string)
	go func() {
		out, _ := hosts[0].Try("sh", "-c", "ok=0; for i in $(seq 200); do curl -sf --max-time 2 http://10.96.0.20/ >/dev/null && ok=$((ok+1)); done; echo $ok")
		done <- strings.TrimSpace(out)
	}()
	for {
		select {
		case answered := <-done:
			if answered != "200" {
				t.Errorf("%s of 200 requests were answered", answered)
			}
			return
		default:
			restarted, err := New(node.backend.cfg)
			if err != nil {
				t.Fatal(err)
			}
			node.backend = restarted
			node.sync(t, objects)
		}
	}
}

func TestAChangeWritesOnlyWhatChanged(t *testing.T) {
	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	node.sync(t, service("10.244.1.3"))
	change := func(objects string) string {
		return string(node.backend.applied.change(proxytest.Snapshot(t, objects), node.backend.applied.node))
	}
	if text := change(service("10.244.1.3")); text != "" {
		t.Errorf("nothing has changed, and yet:\n%s", text)
	}
	text := change(service("10.244.1.3", "10.244.1.4"))
	if strings.Contains(text, "KUBE-SERVICES") || strings.Contains(text, "kubernetes:https") || strings.Contains(text, "*filter") {
		t.Errorf("one more endpoint writes more than its Service:\n%s", text)
	}
	if !strings.Contains(text, "--to-destination 10.244.1.4:8080") {
		t.Errorf("the new endpoint is missing:\n%s", text)
	}
}

func TestFlushedRulesAreNoticed(t *testing.T) {
	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	node.sync(t, service("10.244.1.3"))
	want := proxytest.NormaliseIPTables(node.saved(t))
	if intact, err := node.backend.Check(context.Background()); err != nil || !intact {
		t.Fatalf("right after a sync: %v, %v", intact, err)
	}
	nstest.Run(t, "iptables", "-t", "nat", "-F")
	nstest.Run(t, "iptables", "-t", "nat", "-X")
	if intact, err := node.backend.Check(context.Background()); err != nil || intact {
		t.Fatalf("after a flush: %v, %v", intact, err)
	}
	node.sync(t, service("10.244.1.3"))
	if got := proxytest.NormaliseIPTables(node.saved(t)); got != want {
		t.Errorf("the rules did not come back:\n%s", got)
	}
}

func TestCleanupLeavesTheRulesOfOthers(t *testing.T) {
	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	nstest.Run(t, "iptables", "-A", "FORWARD", "-s", "10.1.1.1", "-j", "DROP")
	node.sync(t, service("10.244.1.3"))
	if err := node.backend.Cleanup(context.Background()); err != nil {
		t.Fatal(err)
	}
	saved := node.saved(t)
	if strings.Contains(saved, "KUBE-") {
		t.Errorf("left behind:\n%s", saved)
	}
	if !strings.Contains(saved, "-A FORWARD -s 10.1.1.1/32 -j DROP") {
		t.Error("a rule of somebody else is gone")
	}
}

// TestRuleCounts: filter = 4 + Services without endpoints, nat = 5 + 2 per
// Service with some + 3 per endpoint.
func TestRuleCounts(t *testing.T) {
	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	for _, services := range []int{0, 1, 10, 1000} {
		for _, endpoints := range []int{0, 1, 10} {
			if services*endpoints > 1000 {
				continue // another mode: large clusters have no comments, and this test its time
			}
			node.sync(t, manyServices(services, endpoints))
			// default/kubernetes is one more Service with one endpoint.
			filter, nat := 4, 5+2+3
			if endpoints == 0 {
				filter += services
			} else {
				nat += services * (2 + 3*endpoints)
			}
			if got := node.backend.applied.rules; got["filter"] != filter || got["nat"] != nat {
				t.Errorf("%d services × %d endpoints: %v, want filter %d, nat %d", services, endpoints, got, filter, nat)
			}
			saved, err := iptables.IPv4.Save(context.Background(), "nat")
			if err != nil {
				t.Fatal(err)
			}
			if kernel := strings.Count(string(saved), "\n-A KUBE-"); kernel != nat {
				t.Errorf("%d services × %d endpoints: the kernel has %d rules in nat, want %d", services, endpoints, kernel, nat)
			}
		}
	}
}

func manyServices(services, endpoints int) string {
	var objects strings.Builder
	for s := range services {
		fmt.Fprintf(&objects, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: default}\nspec: {clusterIP: 10.97.%d.%d, ports: [{protocol: TCP, port: 80}]}\n", s, s/250, s%250+1)
		fmt.Fprintf(&objects, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%d, namespace: default, labels: {kubernetes.io/service-name: s%d}}\naddressType: IPv4\nports: [{name: \"\", protocol: TCP, port: 8080}]\nendpoints:\n", s, s)
		for e := range endpoints {
			fmt.Fprintf(&objects, "- {addresses: [10.244.%d.%d]}\n", s%250, e+2)
		}
		if endpoints == 0 {
			objects.WriteString("  []\n")
		}
	}
	return objects.String()
}
