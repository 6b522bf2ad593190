package iptables

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// Backend is iptables mode. It remembers the rules it has applied, so that a
// change costs what has changed; after a failure or a restart it knows nothing
// and begins with a full sync.
type Backend struct {
	cfg     Config
	nfacct  bool
	applied *parts
	counts  counts
}

// tables in which something of ours is, mangle only the canary.
var tables = []string{"filter", "nat", "mangle"}

// New prepares the node: the counters that rules refer to, and the sysctl that
// lets 127.0.0.1 be the destination of a packet which then leaves the node.
func New(cfg Config) (*Backend, error) {
	if cfg.loopbackNodePorts() {
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0o644); err != nil {
			return nil, fmt.Errorf("let node ports answer on 127.0.0.1 (turn that off with --iptables-localhost-nodeports=false): %w", err)
		}
	}
	err := makeCounters()
	if err != nil {
		slog.Debug("the kernel has no nfacct: rules do not count", "err", err)
	}
	return &Backend{cfg: cfg, nfacct: err == nil}, nil
}

// Sync makes the rules be those of the snapshot.
func (b *Backend) Sync(ctx context.Context, snapshot *proxy.Snapshot) error {
	addresses, err := b.nodePortAddresses()
	if err != nil {
		return err
	}
	node := node{nodePorts: addresses, nfacct: b.nfacct}
	wanted, full := b.applied, b.applied == nil || b.applied.large != isLarge(snapshot)
	slog.Info("Syncing iptables rules", "ipFamily", b.name(), "fullSync", full)
	var text []byte
	if full {
		wanted, text, err = b.fullText(ctx, snapshot, node)
	} else {
		text = wanted.change(snapshot, node)
	}
	if err != nil {
		return err
	}
	if len(text) == 0 {
		return nil
	}
	b.applied = nil // until we know better
	written := iptables.Written(text)
	slog.Info("Reloading service iptables data", "ipFamily", b.name(), "numServices", len(snapshot.Ports), "numEndpoints", snapshot.Endpoints,
		"numFilterChains", written["filter"].Chains, "numFilterRules", written["filter"].Rules,
		"numNATChains", written["nat"].Chains, "numNATRules", written["nat"].Rules)
	if err := b.cfg.family().tool.Restore(ctx, text); err != nil {
		return fmt.Errorf("apply rules: %w", err)
	}
	b.applied = wanted
	b.counts.record(wanted.rules, written)
	return nil
}

// fullText looks at what is there and writes everything.
func (b *Backend) fullText(ctx context.Context, snapshot *proxy.Snapshot, node node) (*parts, []byte, error) {
	saved := map[string]string{}
	for _, table := range tables {
		text, err := b.cfg.family().tool.Save(ctx, table)
		if err != nil {
			return nil, nil, err
		}
		saved[table] = string(text)
	}
	wanted, whole := newParts(snapshot, b.cfg, node)
	return wanted, iptables.Everything(whole, saved, jumps(), isOwn), nil
}

// isOwn tells the chains that come and go with Services. KUBE-FIREWALL and the
// like are not among them: the kubelet may have made those.
func isOwn(chain string) bool {
	return slices.ContainsFunc(ownPrefixes, func(prefix string) bool { return strings.HasPrefix(chain, prefix) })
}

// Check looks for the canaries: a chain which nobody flushes by itself, so
// when it is gone, so is everything else in its table.
func (b *Backend) Check(ctx context.Context) (bool, error) {
	for _, table := range tables {
		_, intact, err := b.cfg.family().tool.List(ctx, table, canaryChain)
		if err != nil {
			return false, err
		}
		if !intact {
			b.applied = nil
			return false, nil
		}
	}
	return true, nil
}

// nodePortAddresses are those which take node ports, when it is not all.
func (b *Backend) nodePortAddresses() ([]netip.Addr, error) {
	if b.cfg.everyNodePortAddress() {
		return nil, nil
	}
	return proxy.NodePortAddresses(b.cfg.NodePortAddresses)
}

// name of the IP family, as the log and the metrics have it.
func (b *Backend) name() string {
	return string(cmp.Or(b.cfg.Family, corev1.IPv4Protocol))
}
