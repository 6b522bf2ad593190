package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/ipvs"
)

const proxyHelp = `kube-proxy makes Services reachable on a node: it watches Services and
EndpointSlices and keeps the node's rules equal to them. The rules stay when it
ends; --cleanup removes them.

Usage: podarium proxy [flags]
`

type proxyFlags struct {
	config                 string
	kubeconfig, node, mode string
	detectLocal            string
	clusterCIDR            string
	podBridge              string
	podInterfacePrefix     string
	bindAddress            string
	nodePortAddresses      string
	health, metrics        string
	syncPeriod             time.Duration
	minSyncPeriod          time.Duration
	oomScoreAdj            int
	conntrack              conntrackFlags
	masqueradeAll          bool
	masqueradeBit          uint
	localhostNodePorts     bool
	ipvs                   ipvsFlags
	cleanup                bool
	logs                   cli.LogFlags
}

func (f *proxyFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.config, "config", "", "`file` with a KubeProxyConfiguration, in place of all flags but --hostname-override and those of the log")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` with the API server's address and our credentials")
	flags.StringVar(&f.node, "hostname-override", "", "`name` of our Node; empty: the host name")
	flags.StringVar(&f.bindAddress, "bind-address", "0.0.0.0", "`address` which is the node's own instead of that of its Node; 0.0.0.0 or ::, none. Nothing listens on it")
	flags.StringVar(&f.mode, "proxy-mode", "iptables", "how to carry Services: iptables, nftables, ipvs or userspace")
	flags.StringVar(&f.clusterCIDR, "cluster-cidr", "", "`range` of all pods: what comes from there to a ClusterIP is not masqueraded")
	flags.StringVar(&f.detectLocal, "detect-local-mode", "ClusterCIDR", "how to know a pod's packet: ClusterCIDR, NodeCIDR (the node's pod range), BridgeInterface or InterfaceNamePrefix")
	flags.StringVar(&f.podBridge, "pod-bridge-interface", "", "`bridge` at which pods' packets come in, with --detect-local-mode BridgeInterface")
	flags.StringVar(&f.podInterfacePrefix, "pod-interface-name-prefix", "", "`beginning` of the names of the interfaces at which they do, with InterfaceNamePrefix")
	flags.StringVar(&f.nodePortAddresses, "nodeport-addresses", "", "`ranges` whose addresses on this node take node ports, or the word primary; empty: all addresses, with nftables the primary one")
	flags.StringVar(&f.health, "healthz-bind-address", "0.0.0.0:10256", "`address` of /healthz and /livez; empty: none")
	flags.StringVar(&f.metrics, "metrics-bind-address", "127.0.0.1:10249", "`address` of /metrics, /proxyMode and /configz; empty: none")
	flags.DurationVar(&f.syncPeriod, "iptables-sync-period", 30*time.Second, "how often to look whether the rules are still there")
	flags.DurationVar(&f.minSyncPeriod, "iptables-min-sync-period", 0, "how long to wait at least between two syncs; 0: changes are in force at once")
	flags.IntVar(&f.oomScoreAdj, "oom-score-adj", -999, "how soon the kernel ends kube-proxy when it has no memory left, from -1000 (never) to 1000")
	flags.BoolVar(&f.masqueradeAll, "masquerade-all", false, "masquerade everything that goes to a ClusterIP")
	flags.UintVar(&f.masqueradeBit, "iptables-masquerade-bit", 14, "`bit` of the packet mark that means: masquerade")
	flags.BoolVar(&f.localhostNodePorts, "iptables-localhost-nodeports", true, "node ports answer on 127.0.0.1 too")
	f.ipvs.define(flags)
	f.conntrack.define(flags)
	flags.BoolVar(&f.cleanup, "cleanup", false, "remove all rules and exit")
	f.logs.Define(flags)
}

func (f *proxyFlags) validate() error {
	var errs []error
	if !slices.Contains([]string{"iptables", "nftables", "ipvs", "userspace"}, f.mode) {
		errs = append(errs, fmt.Errorf("--proxy-mode %q: must be iptables, nftables, ipvs or userspace", f.mode))
	}
	switch f.detectLocal {
	case "ClusterCIDR", "NodeCIDR":
	case "BridgeInterface":
		errs = append(errs, validInterface("--pod-bridge-interface", f.podBridge))
	case "InterfaceNamePrefix":
		errs = append(errs, validInterface("--pod-interface-name-prefix", f.podInterfacePrefix))
	default:
		errs = append(errs, fmt.Errorf("--detect-local-mode %q: must be ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix", f.detectLocal))
	}
	if _, err := netip.ParseAddr(f.bindAddress); err != nil {
		errs = append(errs, fmt.Errorf("--bind-address %q: must be an IP address", f.bindAddress))
	}
	if f.masqueradeBit > 31 {
		errs = append(errs, fmt.Errorf("--iptables-masquerade-bit %d: must be 0 to 31", f.masqueradeBit))
	}
	if f.syncPeriod <= 0 {
		errs = append(errs, fmt.Errorf("--iptables-sync-period %v: must be more than 0", f.syncPeriod))
	}
	if f.minSyncPeriod < 0 || f.minSyncPeriod > f.syncPeriod {
		errs = append(errs, fmt.Errorf("--iptables-min-sync-period %v: must be 0 or more, and not more than --iptables-sync-period %v", f.minSyncPeriod, f.syncPeriod))
	}
	if f.oomScoreAdj < -1000 || f.oomScoreAdj > 1000 {
		errs = append(errs, fmt.Errorf("--oom-score-adj %d: must be -1000 to 1000", f.oomScoreAdj))
	}
	return errors.Join(append(errs, f.ipvs.validate(), f.conntrack.validate())...)
}

// validInterface: the name is written into rules, and no name of an interface is longer
// (IFNAMSIZ of linux/if.h).
func validInterface(flag, name string) error {
	if name == "" || len(name) > 15 || strings.ContainsAny(name, " /\"+*!") {
		return fmt.Errorf("%s %q: must be the name of an interface, of at most 15 characters", flag, name)
	}
	return nil
}

func proxyCommand(ctx context.Context, args []string) error {
	var f proxyFlags
	flags := cli.NewFlagSet("proxy", proxyHelp)
	f.define(flags)
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	if err := f.logs.Setup(); err != nil {
		return err
	}
	if f.cleanup {
		return cleanupProxy(ctx)
	}
	if f.config != "" {
		if err := f.readConfig(); err != nil {
			return err
		}
	}
	if err := f.validate(); err != nil {
		return err
	}
	if f.mode == "ipvs" {
		if err := ipvs.Supported(); err != nil {
			return err
		}
	}
	// Many objects live long and few die: collecting them earlier costs little
	// time and saves half of the memory.
	debug.SetGCPercent(30)
	adjustOOMScore(f.oomScoreAdj)
	f.conntrack.apply()
	client, err := kube.Client(f.kubeconfig, "kube-proxy")
	if err != nil {
		return err
	}
	if f.node == "" {
		if f.node, err = os.Hostname(); err != nil {
			return fmt.Errorf("read host name: %w", err)
		}
	}
	facts, err := f.facts(ctx, client)
	if err != nil {
		return err
	}
	backends, err := f.backends(ctx, facts)
	if err != nil {
		return err
	}
	cfg := proxy.Config{
		Client: client, Node: f.node, Mode: f.mode, Backends: backends, HealthAddress: f.health, MetricsAddress: f.metrics,
		Configz: f.configz(), SyncPeriod: f.syncPeriod, MinSyncPeriod: f.minSyncPeriod,
	}
	if f.mode == "ipvs" {
		cfg.SyncPeriod, cfg.MinSyncPeriod = f.ipvs.syncPeriod, f.ipvs.minSyncPeriod
	}
	if cfg.NodePortAddresses, err = f.healthCheckAddresses(facts); err != nil {
		return err
	}
	return proxy.Run(ctx, cfg)
}

// parsePrefixes reads a list of ranges.
func parsePrefixes(what, list string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", what, part, err)
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}
