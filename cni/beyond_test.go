package cni

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
)

func peer(node, pods string) Peer {
	return Peer{Node: netip.MustParseAddr(node), Pods: netip.MustParsePrefix(pods)}
}

func route(via, pods string) Route { return HostGateway([]Peer{peer(via, pods)})[0] }

func TestPlanRoutes(t *testing.T) {
	node2, node3 := route("192.168.56.12", "10.244.2.0/24"), route("192.168.56.13", "10.244.3.0/24")
	moved := route("192.168.56.22", "10.244.2.0/24")
	for name, tc := range map[string]struct {
		have, want []Route
		plan       RoutePlan
	}{
		"a first node":      {nil, []Route{node2}, RoutePlan{Add: []Route{node2}}},
		"nothing to do":     {[]Route{node2, node3}, []Route{node3, node2}, RoutePlan{}},
		"a node left":       {[]Route{node2, node3}, []Route{node3}, RoutePlan{Remove: []Route{node2}}},
		"a new address":     {[]Route{node2}, []Route{moved}, RoutePlan{Add: []Route{moved}, Remove: []Route{node2}}},
		"told of it twice":  {nil, []Route{node2, node2}, RoutePlan{Add: []Route{node2}}},
		"the last one left": {[]Route{node2}, nil, RoutePlan{Remove: []Route{node2}}},
	} {
		if diff := cmp.Diff(tc.plan, planRoutes(tc.have, tc.want), cmp.Comparer(func(a, b Route) bool { return a == b })); diff != "" {
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
	want := []Route{route("192.168.56.12", "10.244.2.0/24"), route("192.168.56.13", "10.244.3.0/24")}
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

// TestSyncForward: twice the same, behind what somebody else has decided before.
func TestSyncForward(t *testing.T) {
	nstest.Enter(t)
	nstest.Run(t, "iptables", "-P", "FORWARD", "DROP")
	nstest.Run(t, "iptables", "-A", "FORWARD", "-d", "10.244.9.9", "-j", "REJECT")
	for range 2 {
		if err := SyncForward(t.Context(), netip.MustParsePrefix("10.244.0.0/16")); err != nil {
			t.Fatal(err)
		}
	}
	want := `:FORWARD DROP
-A FORWARD -d 10.244.9.9/32 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -m comment --comment "podarium: pods" -j PODARIUM-FORWARD
-A PODARIUM-FORWARD -s 10.244.0.0/16 -m comment --comment "from pods" -j ACCEPT
-A PODARIUM-FORWARD -d 10.244.0.0/16 -m comment --comment "to pods" -j ACCEPT
`
	if diff := cmp.Diff(want, forwardText(t)); diff != "" {
		t.Error(diff)
	}
	if err := Cleanup(t.Context()); err != nil {
		t.Fatal(err)
	}
	want = ":FORWARD DROP\n-A FORWARD -d 10.244.9.9/32 -j REJECT --reject-with icmp-port-unreachable\n"
	if diff := cmp.Diff(want, forwardText(t)); diff != "" {
		t.Error("after Cleanup", diff)
	}
}

// forwardText is what iptables-save tells of forwarding, without counters.
func forwardText(t *testing.T) string {
	t.Helper()
	var got strings.Builder
	for line := range strings.Lines(nstest.Run(t, "iptables-save", "-t", "filter")) {
		if strings.HasPrefix(line, ":FORWARD") {
			line, _, _ = strings.Cut(line, " [")
			line += "\n"
		} else if !strings.HasPrefix(line, "-A") {
			continue
		}
		got.WriteString(line)
	}
	return got.String()
}

// TestOverlay: two nodes on one switch, a pod address on each; the packet
// arrives with the pod's own address, inside one from node to node.
func TestOverlay(t *testing.T) {
	nstest.Enter(t) // the switch
	nstest.Run(t, "ip", "link", "add", "switch0", "type", "bridge")
	nstest.Run(t, "ip", "link", "set", "switch0", "up")
	self := []Peer{peer("192.168.56.11", "10.244.1.0/24"), peer("192.168.56.12", "10.244.2.0/24")}
	var nodes []*nstest.Host
	for i, p := range self {
		node, name := nstest.New(t), fmt.Sprintf("node-%d", i+1)
		nstest.Run(t, "ip", "link", "add", name, "master", "switch0", "type", "veth", "peer", "name", "eth0", "netns", fmt.Sprint(node.Pid()))
		nstest.Run(t, "ip", "link", "set", name, "up")
		node.Run(t, "ip", "addr", "add", p.Node.String()+"/24", "dev", "eth0")
		node.Run(t, "ip", "link", "set", "eth0", "up")
		node.Run(t, "ip", "link", "add", "cni0", "type", "bridge")
		node.Run(t, "ip", "addr", "add", p.Pods.Addr().Next().String()+"/24", "dev", "cni0")
		node.Run(t, "ip", "link", "set", "cni0", "up")
		nodes = append(nodes, node)
	}
	sync := func(i int, peers ...Peer) RoutePlan {
		t.Helper()
		var plan RoutePlan
		err := netns.Do(nodes[i].Path(), func() error {
			routes, err := SyncOverlay(self[i], peers)
			if err != nil {
				return err
			}
			plan, err = SyncRoutes(routes)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return plan
	}
	sync(0, self[1])
	sync(1, self[0])
	nodes[0].Run(t, "busybox", "ping", "-c1", "-W2", "-I", "10.244.1.1", "10.244.2.1")
	if plan := sync(0, self[1]); len(plan.Add)+len(plan.Remove) != 0 {
		t.Errorf("nothing has changed, and yet: %v", plan)
	}
	if link := nodes[0].Run(t, "ip", "-d", "link", "show", tunnelName); !strings.Contains(link, "mtu 1450") || !strings.Contains(link, "dstport 4789") {
		t.Errorf("the tunnel: %s", link)
	}
	// The other node leaves: nothing of it stays.
	sync(0)
	for _, command := range [][]string{{"ip", "route", "show", "proto", "80"}, {"bridge", "fdb", "show", "dev", tunnelName}, {"ip", "neigh", "show", "dev", tunnelName, "nud", "permanent"}} {
		if out := nodes[0].Run(t, command...); strings.Contains(out, "10.244.2.0") || strings.Contains(out, "192.168.56.12") {
			t.Errorf("%v after the peer left:\n%s", command, out)
		}
	}
	// Native routing again: the tunnel goes.
	if err := netns.Do(nodes[0].Path(), RemoveOverlay); err != nil {
		t.Fatal(err)
	}
	if out, err := nodes[0].Try("ip", "link", "show", tunnelName); err == nil {
		t.Errorf("the tunnel is still there: %s", out)
	}
}
