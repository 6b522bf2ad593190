package cni

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podarium/podarium/internal/netns/nstest"
)

func peer(node, pods string) Peer {
	return Peer{Node: netip.MustParseAddr(node), Pods: netip.MustParsePrefix(pods)}
}

func TestPlanRoutes(t *testing.T) {
	node2, node3 := peer("192.168.56.12", "10.244.2.0/24"), peer("192.168.56.13", "10.244.3.0/24")
	moved := peer("192.168.56.22", "10.244.2.0/24")
	for name, tc := range map[string]struct {
		have, want []Peer
		plan       RoutePlan
	}{
		"a first node":      {nil, []Peer{node2}, RoutePlan{Add: []Peer{node2}}},
		"nothing to do":     {[]Peer{node2, node3}, []Peer{node3, node2}, RoutePlan{}},
		"a node left":       {[]Peer{node2, node3}, []Peer{node3}, RoutePlan{Remove: []Peer{node2}}},
		"a new address":     {[]Peer{node2}, []Peer{moved}, RoutePlan{Add: []Peer{moved}, Remove: []Peer{node2}}},
		"told of it twice":  {nil, []Peer{node2, node2}, RoutePlan{Add: []Peer{node2}}},
		"the last one left": {[]Peer{node2}, nil, RoutePlan{Remove: []Peer{node2}}},
	} {
		if diff := cmp.Diff(tc.plan, planRoutes(tc.have, tc.want), cmp.Comparer(func(a, b Peer) bool { return a == b })); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestSyncRoutesLeavesOthersAlone(t *testing.T) {
	nstest.Enter(t)
	nstest.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire")
	nstest.Run(t, "ip", "addr", "add", "192.168.56.11/24", "dev", "eth0")
	nstest.Run(t, "ip", "link", "set", "eth0", "up")
	nstest.Run(t, "ip", "route", "add", "10.96.0.0/12", "dev", "eth0")
	want := []Peer{peer("192.168.56.12", "10.244.2.0/24"), peer("192.168.56.13", "10.244.3.0/24")}
	for range 2 { // the second time changes nothing
		if _, err := SyncRoutes(want); err != nil {
			t.Fatal(err)
		}
	}
	routes := func() string { return nstest.Run(t, "ip", "route", "show", "proto", "80") }
	for _, line := range []string{"10.244.2.0/24 via 192.168.56.12 dev eth0", "10.244.3.0/24 via 192.168.56.13 dev eth0"} {
		if !strings.Contains(routes(), line) {
			t.Errorf("no %q in\n%s", line, routes())
		}
	}
	if _, err := SyncRoutes(want[:1]); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(routes(), "10.244.3.0") {
		t.Errorf("the route to a node that left stays:\n%s", routes())
	}
	if all := nstest.Run(t, "ip", "route"); !strings.Contains(all, "10.96.0.0/12 dev eth0") {
		t.Errorf("a route of somebody else is gone:\n%s", all)
	}
}

func TestSyncMasqueradeIsIdempotent(t *testing.T) {
	nstest.Enter(t)
	pods := netip.MustParsePrefix("10.244.1.0/24")
	inside := []netip.Prefix{netip.MustParsePrefix("192.168.56.12/32"), netip.MustParsePrefix("10.244.0.0/16")}
	for range 2 {
		if err := SyncMasquerade(context.Background(), pods, inside); err != nil {
			t.Fatal(err)
		}
	}
	want := `-A POSTROUTING -s 10.244.1.0/24 -m comment --comment "podarium: from pods" -j PODARIUM-MASQ
-A PODARIUM-MASQ -d 10.244.0.0/16 -m comment --comment "inside the cluster" -j RETURN
-A PODARIUM-MASQ -d 192.168.56.12/32 -m comment --comment "inside the cluster" -j RETURN
-A PODARIUM-MASQ -m comment --comment "to the outside" -j MASQUERADE --random-fully
`
	var got strings.Builder
	for line := range strings.Lines(nstest.Run(t, "iptables-save", "-t", "nat")) {
		if strings.HasPrefix(line, "-A") {
			got.WriteString(line)
		}
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}
