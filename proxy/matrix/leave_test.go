package matrix

import (
	"context"
	"strings"
	"testing"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/iptables"
	"github.com/podarium/podarium/proxy/ipvs"
	"github.com/podarium/podarium/proxy/nftables"
)

// TestCleanupOfAllModes: --cleanup on a node where one mode has run leaves
// nothing of it, and everything of others, whoever runs it.
func TestCleanupOfAllModes(t *testing.T) {
	for mode := range strings.SplitSeq(*modes, ",") {
		t.Run(mode, func(t *testing.T) {
			nstest.Enter(t)
			nstest.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire")
			nstest.Run(t, "ip", "addr", "add", "192.168.56.11/24", "dev", "eth0")
			nstest.Run(t, "iptables", "-A", "FORWARD", "-s", "10.1.1.1", "-j", "DROP")
			nstest.Run(t, "nft", "add", "table", "ip", "mine")
			before := nstest.Run(t, "nft", "list", "ruleset")
			model := proxy.NewModel("node-1", "IPv4")
			model.SetService(service(nodePort, loadBalancer("203.0.113.10"), sourceRanges("10.1.0.0/16")))
			model.SetSlice(slice(endpoint("pod-b"), endpoint("pod-d")))
			backend, err := newBackend(mode, "node-1", ipv4, flags{})
			if err != nil {
				t.Fatal(err)
			}
			if err := backend.Sync(context.Background(), model.Snapshot()); err != nil {
				t.Fatal(err)
			}
			// ipvs mode has it as an address, the others in rules.
			if there := nstest.Run(t, "nft", "list", "ruleset") + nstest.Run(t, "ip", "addr"); !strings.Contains(there, "10.96.0.20") {
				t.Fatalf("the Service is not there:\n%s", there)
			}
			for _, cleanup := range []func(context.Context) error{ipvs.Cleanup, iptables.Cleanup, nftables.Cleanup} {
				if err := cleanup(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if addresses := nstest.Run(t, "ip", "addr"); strings.Contains(addresses, "10.96.0.20") || strings.Contains(addresses, "kube-ipvs0") {
				t.Errorf("left:\n%s", addresses)
			}
			if after := rulesOf(nstest.Run(t, "nft", "list", "ruleset")); after != rulesOf(before) {
				t.Errorf("left:\n%s\nwant:\n%s", after, rulesOf(before))
			}
		})
	}
}

// rulesOf are the tables and rules of a ruleset, without the kernel's own empty
// chains, which iptables makes by itself when it looks at a table.
func rulesOf(ruleset string) string {
	var kept []string
	for line := range strings.Lines(ruleset) {
		if strings.Contains(line, "counter") || strings.Contains(line, "table ip mine") || strings.Contains(strings.ToLower(line), "kube") {
			kept = append(kept, strings.TrimSpace(line))
		}
	}
	return strings.Join(kept, "\n")
}
