package nftables

import (
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// TestSituations: our table must be kube-proxy's in the kernel's own words.
func TestSituations(t *testing.T) {
	t.Run("nftables", testMode("nftables", corev1.IPv4Protocol).TestSituations)
	t.Run("nftables-ip6", testMode("nftables-ip6", corev1.IPv6Protocol).TestSituations)
}

func TestChanges(t *testing.T) { testMode("nftables", corev1.IPv4Protocol).TestChanges(t) }

func testMode(name string, family corev1.IPFamily) proxytest.Mode {
	return proxytest.Mode{
		Name: name, Family: family,
		New: func(t *testing.T, flags proxytest.Flags) proxy.Backend {
			t.Helper()
			return newBackend(family, flags)
		},
		Rules: func(t *testing.T) string {
			t.Helper()
			return ruleset(t, Config{Family: family}.family())
		},
	}
}

func newBackend(f corev1.IPFamily, flags proxytest.Flags) *Backend {
	cfg := Config{
		Family: f, MasqueradeBit: 14, LocalPods: flags.LocalPods, MasqueradeAll: flags.MasqueradeAll,
		NodePortAddresses: flags.NodePortAddresses,
	}
	if f == corev1.IPv4Protocol {
		cfg.NodeIP = netip.MustParseAddr("192.168.56.11")
		cfg.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
	}
	return New(cfg)
}

// ruleset is `nft list ruleset`, made comparable.
func ruleset(t *testing.T, f family) string {
	t.Helper()
	return proxytest.NormaliseNFTables(nstest.Run(t, "nft", "list", "table", f.ip, table))
}
