//go:build ipvsguest

package ipvs

import (
	"context"
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy/proxytest"
)

// These tests need a kernel with IPVS: scripts/test-ipvs.sh brings one along.

// testNode is node-1 with a backend.
type testNode struct {
	backend *Backend
}

func newNode(t *testing.T) *testNode {
	t.Helper()
	proxytest.Node(t)
	n := &testNode{}
	n.restart(t, config(t, []string{"--cluster-cidr=10.244.0.0/16"}))
	return n
}

// restart is a new proxy, which knows nothing.
func (n *testNode) restart(t *testing.T, cfg Config) {
	t.Helper()
	backend, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.backend = backend
}

func (n *testNode) sync(t *testing.T, objects string) {
	t.Helper()
	if err := n.backend.Sync(context.Background(), proxytest.Snapshot(t, objects)); err != nil {
		t.Fatal(err)
	}
}

func (n *testNode) check(t *testing.T) bool {
	t.Helper()
	intact, err := n.backend.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return intact
}

// have is what the kernel has, as text.
func (n *testNode) have(t *testing.T) string {
	t.Helper()
	have, err := n.backend.read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	have.Rules = noRules()
	return text(have.Plan, n.backend.cfg.family())
}

// TestTheKernelHasThePlan: one situation after the other, in one kernel, and a
// restart in those that begin with other flags.
func TestTheKernelHasThePlan(t *testing.T) {
	for name, of := range families {
		t.Run(name, func(t *testing.T) { theKernelHasThePlan(t, of.family, of.own) })
	}
}

func theKernelHasThePlan(t *testing.T, family corev1.IPFamily, own []netip.Addr) {
	t.Helper()
	n := newNode(t)
	if family == corev1.IPv6Protocol {
		nstest.Run(t, "ip", "addr", "add", own[0].String()+"/64", "dev", "eth0", "nodad")
	}
	for _, s := range proxytest.Situations(t) {
		if _, ok := s.Rules["ip6tables"]; !ok && family == corev1.IPv6Protocol {
			continue // most are about IPv4
		}
		if cfg := configOf(t, family, s.Flags); !reflect.DeepEqual(cfg, n.backend.cfg) {
			n.restart(t, cfg)
		}
		for _, objects := range append(s.Before, s.Objects) {
			snapshot := proxytest.SnapshotOf(t, family, objects)
			if err := n.backend.Sync(t.Context(), snapshot); err != nil {
				t.Fatal(err)
			}
			want := plan(snapshot, n.backend.cfg, own)
			want.Rules = noRules()
			if diff := cmp.Diff(text(want, n.backend.cfg.family()), n.have(t)); diff != "" {
				t.Fatalf("%s: the kernel differs (-plan +kernel):\n%s", s.Name, diff)
			}
		}
	}
	if !n.check(t) {
		t.Error("the rules are not those of the plan")
	}
}
