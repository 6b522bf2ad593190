package main

import (
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

var modes = flag.String("modes", "iptables,nftables,userspace", "proxy modes to switch between, in a list; ipvs needs a kernel that has it")

const nodePortService = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20, "fd00:10:96::20"]
  ports: [{protocol: TCP, port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", protocol: TCP, port: 8080}]
endpoints: [{addresses: [10.244.1.3], nodeName: node-1, conditions: {ready: true}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-2, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: "", protocol: TCP, port: 8080}]
endpoints: [{addresses: ["fd00:10:244:1::3"], nodeName: node-1, conditions: {ready: true}}]
`

// bothFamilies are what the proxy knows of node-1.
var bothFamilies = []proxyFacts{
	{
		family: corev1.IPv4Protocol, node: netip.MustParseAddr("192.168.56.11"), pods: proxy.LocalPods{Range: netip.MustParsePrefix("10.244.0.0/16")},
		services: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
	},
	{
		family: corev1.IPv6Protocol, node: netip.MustParseAddr("fd00:192:168:56::11"), pods: proxy.LocalPods{Range: netip.MustParsePrefix("fd00:10:244::/56")},
		services: []netip.Prefix{netip.MustParsePrefix("fd00:10:96::/112")},
	},
}

// TestSwitchingModes: what a node has after a switch from any mode to any other
// is what it would have without the first, and after --cleanup nothing.
func TestSwitchingModes(t *testing.T) {
	list := strings.Split(*modes, ",")
	for _, to := range list {
		var want string
		t.Run("only "+to, func(t *testing.T) {
			proxytest.Node(t)
			startMode(t, to)
			want = traces(t)
			if !strings.Contains(want, "10.96.0.20") || to != "userspace" && !strings.Contains(want, "fd00:10:96::20") {
				t.Fatalf("the Service is not to be seen:\n%s", want)
			}
			cleanUp(t)
		})
		for _, from := range list {
			if slices.Contains(list, "ipvs") && from != "ipvs" && to != "ipvs" {
				continue // a pair for kernels that have no ipvs either
			}
			t.Run("from "+from+" to "+to, func(t *testing.T) {
				proxytest.Node(t)
				startMode(t, from)
				startMode(t, to)
				if diff := cmp.Diff(want, traces(t)); diff != "" {
					t.Errorf("not as if it had always been %s (-want +got):\n%s", to, diff)
				}
				cleanUp(t)
			})
		}
	}
}

// startMode does what the proxy does when it starts, and one sync.
func startMode(t *testing.T, mode string) {
	t.Helper()
	f := proxyFlags{mode: mode, masqueradeBit: 14, ipvs: ipvsFlags{scheduler: "rr"}}
	if err := f.removeOtherModes(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, own := range bothFamilies {
		if own.family == corev1.IPv6Protocol && !f.hasIPv6(t.Context()) {
			continue
		}
		backend, err := f.backend(own)
		if err != nil {
			t.Fatal(err)
		}
		proxytest.Sync(t, backend, proxytest.SnapshotOf(t, own.family, nodePortService))
	}
}

func cleanUp(t *testing.T) {
	t.Helper()
	if err := proxyCommand(t.Context(), []string{"--cleanup"}); err != nil {
		t.Fatal(err)
	}
	if left := traces(t); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
}

// noise are lines that say nothing of a proxy: comments, the kernel's own
// chains, empty tables; and what is different each time: counters, the ports of
// userspace mode.
var (
	noise   = regexp.MustCompile(`(?m)^(#.*|:[A-Z]+ (ACCEPT|DROP) .*|\*[a-z]+|COMMIT)\n`)
	varying = regexp.MustCompile(`\[\d+:\d+\]|--to-ports \d+|initval 0x[0-9a-f]+|(--to-destination [0-9.]+):\d+`)
)

// traces is everything that proxies leave in the kernel.
func traces(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{"iptables-save", "ip6tables-save", "nft list table ip kube-proxy", "nft list table ip6 kube-proxy", "ipset save", "ip -brief addr show kube-ipvs0"} {
		args := strings.Fields(command)
		out, err := exec.Command(args[0], args[1:]...).Output() // fails where there is no such thing
		if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
			t.Fatal(err)
		}
		all.WriteString(ordered(args[0], string(out)))
	}
	servers, err := os.ReadFile("/proc/thread-self/net/ip_vs")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if _, list, ok := strings.Cut(string(servers), "InActConn\n"); ok {
		all.WriteString(ordered("ip_vs", list))
	}
	return varying.ReplaceAllString(noise.ReplaceAllString(all.String(), ""), "$1")
}

// ordered sorts the lines of what comes from a hash table.
func ordered(what, text string) string {
	if what != "ipset" && what != "ip_vs" {
		return text
	}
	return strings.Join(slices.Sorted(strings.Lines(text)), "")
}
