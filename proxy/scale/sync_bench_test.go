package scale

import (
	"bytes"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/iptables"
	"github.com/podarium/podarium/proxy/ipvs"
	"github.com/podarium/podarium/proxy/nftables"
	"github.com/podarium/podarium/proxy/proxytest"
	"github.com/podarium/podarium/proxy/userspace"
)

// modes are those whose cost is in the kernel and measured everywhere.
var modes = []string{"iptables", "nftables"}

func newBackend(mode string) (proxy.Backend, error) {
	ip, pods := netip.MustParseAddr("192.168.56.11"), proxy.LocalPods{Range: netip.MustParsePrefix("10.244.0.0/16")}
	switch mode {
	case "iptables":
		return iptables.New(iptables.Config{NodeIP: ip, LocalPods: pods, MasqueradeBit: 14})
	case "nftables":
		return nftables.New(nftables.Config{NodeIP: ip, LocalPods: pods, MasqueradeBit: 14, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}}), nil
	case "ipvs":
		return ipvs.New(ipvs.Config{NodeIP: ip, LocalPods: pods, MasqueradeBit: 14, Scheduler: "rr"})
	case "userspace":
		return userspace.New(userspace.Config{NodeIP: ip, LocalPods: pods})
	}
	return nil, fmt.Errorf("no mode %q", mode)
}

func backend(tb testing.TB, mode string) proxy.Backend {
	tb.Helper()
	b, err := newBackend(mode)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func sync(tb testing.TB, backend proxy.Backend, model *proxy.Model) {
	tb.Helper()
	if err := backend.Sync(tb.Context(), model.Snapshot()); err != nil {
		tb.Fatal(err)
	}
}

// bare is what the tool alone takes for the same rules, from nothing.
func bare(tb testing.TB, mode string) time.Duration {
	tb.Helper()
	save, restore := []string{"iptables-save"}, []string{"iptables-restore"}
	if mode == "nftables" {
		save, restore = []string{"nft", "list", "table", "ip", "kube-proxy"}, []string{"nft", "-f", "-"}
	}
	text := nstest.Run(tb, save...)
	nstest.Run(tb, "nft", "flush", "ruleset")
	cmd := exec.Command(restore[0], restore[1:]...)
	cmd.Stdin = bytes.NewReader([]byte(text))
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("%v: %v: %s", restore, err, out)
	}
	return time.Since(began)
}

// BenchmarkFullSync: the first sync of 5000 Services with 2 endpoints each.
func BenchmarkFullSync(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode, func(b *testing.B) {
			proxytest.Node(b)
			cluster := proxytest.NewCluster(5000, 2)
			var took, alone time.Duration
			for range b.N {
				nstest.Run(b, "nft", "flush", "ruleset")
				began := time.Now()
				sync(b, backend(b, mode), cluster.Model)
				took += time.Since(began)
				alone += bare(b, mode)
			}
			b.ReportMetric(took.Seconds()/float64(b.N), "s/sync")
			b.ReportMetric(took.Seconds()/alone.Seconds(), "÷bare")
		})
	}
}

// BenchmarkRestart: a full sync over the rules of a proxy before.
func BenchmarkRestart(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode, func(b *testing.B) {
			proxytest.Node(b)
			cluster := proxytest.NewCluster(5000, 2)
			sync(b, backend(b, mode), cluster.Model)
			for b.Loop() {
				sync(b, backend(b, mode), cluster.Model)
			}
		})
	}
}

// BenchmarkEndpointChange: one endpoint comes or goes, from the model to the
// kernel.
func BenchmarkEndpointChange(b *testing.B) {
	for _, mode := range modes {
		for _, services := range []int{100, 5000} {
			b.Run(fmt.Sprintf("%s/%d", mode, services), func(b *testing.B) {
				proxytest.Node(b)
				cluster, backend := proxytest.NewCluster(services, 2), backend(b, mode)
				sync(b, backend, cluster.Model)
				var took []time.Duration
				for i := range max(b.N, 50) {
					began := time.Now()
					cluster.SetEndpoints(i%services, "10.64.0.2", fmt.Sprintf("10.65.%d.3", i%250))
					sync(b, backend, cluster.Model)
					took = append(took, time.Since(began))
				}
				slices.Sort(took)
				b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
				b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
			})
		}
	}
}
