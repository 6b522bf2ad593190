package iptables

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// TestSituations: our rules must be kube-proxy's in the kernel's own words.
func TestSituations(t *testing.T) {
	t.Run("iptables", testMode("iptables", corev1.IPv4Protocol, iptables.IPv4).TestSituations)
	t.Run("ip6tables", testMode("ip6tables", corev1.IPv6Protocol, iptables.IPv6).TestSituations)
}

func TestChanges(t *testing.T) {
	testMode("iptables", corev1.IPv4Protocol, iptables.IPv4).TestChanges(t)
}

func testMode(name string, family corev1.IPFamily, tool iptables.Tool) proxytest.Mode {
	return proxytest.Mode{
		Name: name, Family: family,
		New: func(t *testing.T, flags proxytest.Flags) proxy.Backend {
			t.Helper()
			return newBackend(t, family, flags)
		},
		Rules: func(t *testing.T) string {
			t.Helper()
			return proxytest.NormaliseIPTables(saved(t, tool))
		},
	}
}

func newBackend(t *testing.T, family corev1.IPFamily, flags proxytest.Flags) *Backend {
	t.Helper()
	cfg := Config{
		Family: family, MasqueradeBit: 14, LocalPods: flags.LocalPods, MasqueradeAll: flags.MasqueradeAll,
		LocalhostNodePorts: flags.LocalhostNodePorts, NodePortAddresses: flags.NodePortAddresses,
	}
	if family == corev1.IPv4Protocol {
		cfg.NodeIP = netip.MustParseAddr("192.168.56.11")
	}
	backend, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return backend
}

// testNode is node-1 with a backend.
type testNode struct {
	backend *Backend
}

func newNode(t *testing.T, flags []string) *testNode {
	t.Helper()
	proxytest.Node(t)
	return &testNode{newBackend(t, corev1.IPv4Protocol, proxytest.ParseFlags(t, corev1.IPv4Protocol, flags))}
}

func (n *testNode) sync(t *testing.T, objects string) {
	t.Helper()
	if err := n.backend.Sync(context.Background(), proxytest.Snapshot(t, objects)); err != nil {
		t.Fatal(err)
	}
}

func (n *testNode) saved(t *testing.T) string {
	t.Helper()
	return saved(t, iptables.IPv4)
}

func saved(t *testing.T, tool iptables.Tool) string {
	t.Helper()
	var all strings.Builder
	for _, table := range []string{"nat", "filter", "mangle"} {
		saved, err := tool.Save(context.Background(), table)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(saved)
	}
	return all.String()
}
