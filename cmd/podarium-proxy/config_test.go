package main

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/netns/nstest"
)

// kubeadm's file, with some settings that are not the default.
const configFile = `
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: 0.0.0.0
clientConnection: {kubeconfig: /var/lib/kube-proxy/kubeconfig.conf, qps: 0}
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: 0, min: null, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: 2h0m0s}
hostnameOverride: node-7
iptables: {localhostNodePorts: null, masqueradeAll: true, masqueradeBit: 15, minSyncPeriod: 1s, syncPeriod: 0s}
ipvs: {scheduler: "", excludeCIDRs: [10.1.0.0/16, 10.2.0.0/16]}
nftables: {masqueradeAll: false, masqueradeBit: 13, minSyncPeriod: 2s, syncPeriod: 20s}
nodePortAddresses: [primary]
oomScoreAdj: -500
`

func parseProxy(t *testing.T, file string, args ...string) (proxyFlags, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.conf")
	if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	var f proxyFlags
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	f.define(flags)
	if err := flags.Parse(append(args, "--config="+path)); err != nil {
		t.Fatal(err)
	}
	return f, f.readConfig()
}

// TestConfigFile: what the file says counts, its gaps have the defaults, and
// flags beside it are not looked at, but for the node's name.
func TestConfigFile(t *testing.T) {
	f, err := parseProxy(t, configFile, "--proxy-mode=userspace", "--masquerade-all=false")
	if err != nil {
		t.Fatal(err)
	}
	z := f.configz()
	for what, ok := range map[string]bool{
		"mode":              z.Mode == "iptables",
		"node":              z.HostnameOverride == "node-7",
		"kubeconfig":        z.ClientConnection.Kubeconfig == "/var/lib/kube-proxy/kubeconfig.conf",
		"masqueradeBit":     *z.IPTables.MasqueradeBit == 15 && z.IPTables.MasqueradeAll && *z.IPTables.LocalhostNodePorts,
		"periods":           z.IPTables.SyncPeriod.Duration == 30*time.Second && z.IPTables.MinSyncPeriod.Duration == time.Second,
		"conntrack":         *z.Conntrack.MaxPerCore == 0 && *z.Conntrack.Min == 131072 && z.Conntrack.TCPEstablishedTimeout.Duration == 2*time.Hour && z.Conntrack.TCPCloseWaitTimeout.Duration == time.Hour,
		"excludeCIDRs":      len(z.IPVS.ExcludeCIDRs) == 2 && z.IPVS.Scheduler == "rr",
		"nodePortAddresses": len(z.NodePortAddresses) == 1 && z.NodePortAddresses[0] == "primary",
		"oomScoreAdj":       *z.OOMScoreAdj == -500,
		"healthz":           z.HealthzBindAddress == "0.0.0.0:10256",
	} {
		if !ok {
			t.Errorf("%s: %+v", what, z)
		}
	}
	f, err = parseProxy(t, strings.Replace(configFile, "hostname", "mode: nftables\nhostname", 1), "--hostname-override=node-8")
	if err != nil {
		t.Fatal(err)
	}
	if z := f.configz(); z.HostnameOverride != "node-8" || *z.NFTables.MasqueradeBit != 13 || z.NFTables.MasqueradeAll || z.NFTables.MinSyncPeriod.Duration != 2*time.Second {
		t.Errorf("nftables: %+v", z)
	}
}

func TestConfigFileIsWrong(t *testing.T) {
	for file, want := range map[string]string{
		"clusterCIDRs: []\n":                               "Kind", // says not what it is
		configFile + "nodeportAddress: []\n":               `unknown field "nodeportAddress"`,
		strings.Replace(configFile, "v1alpha1", "v2", 1):   "v2",
		strings.Replace(configFile, "20s", "\"often\"", 1): "often",
	} {
		if _, err := parseProxy(t, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want it to name %q", err, want)
		}
	}
	f, err := parseProxy(t, configFile+"detectLocalMode: BridgeInterface\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.validate(); err == nil || !strings.Contains(err.Error(), "--pod-bridge-interface") {
		t.Errorf("%v, want it to miss the name of the bridge", err)
	}
}

// TestNodePortsOfTheOtherFamily: in nftables mode a range of IPv4 leaves IPv6 as it
// is without ranges in all other modes, every address; no flag is another thing.
func TestNodePortsOfTheOtherFamily(t *testing.T) {
	own := proxyFacts{family: corev1.IPv6Protocol, node: netip.MustParseAddr("fd00:56::11")}
	if got := (&proxyFlags{nodePortAddresses: "192.168.56.0/24"}).nftablesNodePorts(own); len(got) != 1 || got[0].String() != "::/0" {
		t.Errorf("with a range of IPv4: %v", got)
	}
	if got := (&proxyFlags{}).nftablesNodePorts(own); len(got) != 0 {
		t.Errorf("without a range: %v", got)
	}
	own.nodePorts = []netip.Prefix{netip.MustParsePrefix("fd00:56::/64")}
	if got := (&proxyFlags{nodePortAddresses: "fd00:56::/64"}).nftablesNodePorts(own); len(got) != 1 || got[0] != own.nodePorts[0] {
		t.Errorf("with a range of IPv6: %v", got)
	}
}

// TestHealthChecksOfBothFamilies: nftables mode takes the primary address of each,
// all others every address, which is none in the list.
func TestHealthChecksOfBothFamilies(t *testing.T) {
	four, six := netip.MustParseAddr("192.168.56.11"), netip.MustParseAddr("fd00:56::11")
	facts := []proxyFacts{{family: corev1.IPv4Protocol, node: four}, {family: corev1.IPv6Protocol, node: six}}
	got, err := (&proxyFlags{mode: "nftables"}).healthCheckAddresses(facts)
	if err != nil || !slices.Equal(got, []netip.Addr{four, six}) {
		t.Errorf("nftables mode: %v, %v", got, err)
	}
	facts[1].node = netip.Addr{}
	got, err = (&proxyFlags{mode: "nftables"}).healthCheckAddresses(facts)
	if err != nil || !slices.Equal(got, []netip.Addr{four}) {
		t.Errorf("nftables mode without IPv6: %v, %v", got, err)
	}
	if got, err := (&proxyFlags{mode: "iptables"}).healthCheckAddresses(facts); err != nil || len(got) != 0 {
		t.Errorf("iptables mode: %v, %v", got, err)
	}
}

// TestConntrackSettings: the timeouts are set for this network namespace alone,
// and 0 leaves them.
func TestConntrackSettings(t *testing.T) {
	nstest.Enter(t)
	setting := func(name string) string {
		return strings.TrimSpace(nstest.Run(t, "cat", "/proc/sys/net/netfilter/nf_conntrack_"+name))
	}
	before := setting("udp_timeout")
	f := conntrackFlags{tcpEstablished: 7201 * time.Second, tcpCloseWait: time.Hour, udpStream: 77 * time.Second, tcpBeLiberal: true}
	f.apply()
	for name, want := range map[string]string{
		"tcp_timeout_established": "7201", "tcp_timeout_close_wait": "3600", "udp_timeout": before, "udp_timeout_stream": "77", "tcp_be_liberal": "1",
	} {
		if got := setting(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for _, m := range []struct{ perCore, min, cores, want int }{{0, 131072, 8, 0}, {32768, 131072, 2, 131072}, {32768, 131072, 8, 262144}} {
		c := conntrackFlags{maxPerCore: m.perCore, min: m.min}
		if got := c.max(m.cores); got != m.want {
			t.Errorf("%s connections for %+v", strconv.Itoa(got), m)
		}
	}
}
