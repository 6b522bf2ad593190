package nftables

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/proxy"
)

// Backend is nftables mode. It remembers the rules it has applied, so that a
// change costs what has changed; after a failure or a restart it knows nothing
// and begins with a full sync.
type Backend struct {
	cfg     Config
	applied *parts
	unused  leftovers // of the Syncs since the last Settle
}

// New is a backend which has applied nothing yet.
func New(cfg Config) *Backend { return &Backend{cfg: cfg} }

// Sync makes the table be that of the snapshot.
func (b *Backend) Sync(ctx context.Context, snapshot *proxy.Snapshot) error {
	addresses, err := b.nodePortAddresses()
	if err != nil {
		return err
	}
	fixed := planFixed(b.cfg, addresses)
	full := b.applied == nil || b.applied.clash || b.applied.scale != scaleOf(snapshot) || !b.applied.fixed.equal(fixed)
	slog.Info("Syncing nftables rules", "ipFamily", b.name(), "fullSync", full)
	wanted := b.applied
	var s steps
	if !full {
		s = wanted.change(snapshot)
		full = wanted.clash
	}
	if full {
		wanted = newParts(fixed, snapshot, b.cfg)
		s, err = b.fullSteps(wanted)
	} else {
		s.unused.rules, err = b.coveredBy(ctx, s)
	}
	b.applied = nil // until we know better
	if err != nil {
		return err
	}
	slog.Info("Reloading service nftables data", "ipFamily", b.name(), "numServices", len(snapshot.Ports), "numEndpoints", snapshot.Endpoints,
		"numCommands", strings.Count(s.prepare+s.change, "\n"))
	if err := run(ctx, s.prepare); err != nil {
		return fmt.Errorf("prepare rules: %w", err)
	}
	if err := run(ctx, s.change); err != nil {
		return fmt.Errorf("apply rules: %w", err)
	}
	b.applied = wanted
	b.unused.add(s.unused)
	return nil
}

// fullSteps looks at what is there, which also are all leftovers.
func (b *Backend) fullSteps(wanted *parts) (steps, error) {
	have, err := list(b.cfg.family())
	if err != nil {
		return steps{}, err
	}
	b.unused = leftovers{}
	s := everything(wanted.whole(), have)
	s.unused.rules = have.rules
	return s, nil
}

// coveredBy are the rules which will stand behind those of the steps, but for the
// ones that stand behind others already. What is to go can not be made at the
// same time: then it goes first.
func (b *Backend) coveredBy(ctx context.Context, s steps) (handles, error) {
	if b.unused.any(s.made) {
		if err := b.Settle(ctx); err != nil {
			return nil, err
		}
	}
	covered, err := rulesOf(b.cfg.family(), s.covered)
	for chain := range covered {
		covered[chain] = slices.DeleteFunc(covered[chain], func(handle uint64) bool { return slices.Contains(b.unused.rules[chain], handle) })
	}
	return covered, err
}

// Settle removes what Syncs have left for packets that were on their way.
func (b *Backend) Settle(ctx context.Context) error {
	text := b.unused.removal(b.cfg.family().table())
	if text == "" {
		return nil
	}
	b.unused = leftovers{}
	if err := waitForPackets(); err != nil {
		slog.Debug("rules are removed without waiting: one packet of many thousands may meet half of a change", "err", err)
	}
	if err := run(ctx, text); err != nil {
		b.applied = nil
		return fmt.Errorf("remove what is not used any more: %w", err)
	}
	return nil
}

// Check tells whether the table is still there with its hooks.
func (b *Backend) Check(context.Context) (bool, error) {
	intact, err := hasChain(b.cfg.family(), servicesChain)
	if err == nil && !intact {
		b.applied = nil
	}
	return intact, err
}

// run gives nft a transaction: all of it happens, or nothing.
func run(ctx context.Context, text string) error {
	if text == "" {
		return nil
	}
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("nft -f: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// nodePortAddresses are the node's addresses that take node ports: its own, or
// those in the configured ranges; never 127.0.0.1, which nftables mode leaves
// alone.
func (b *Backend) nodePortAddresses() ([]netip.Addr, error) {
	if b.cfg.everyNodePortAddress() {
		return nil, nil
	}
	if len(b.cfg.NodePortAddresses) == 0 {
		return []netip.Addr{b.cfg.NodeIP}, nil
	}
	addrs, err := proxy.NodePortAddresses(b.cfg.NodePortAddresses)
	return slices.DeleteFunc(addrs, netip.Addr.IsLoopback), err
}

// name of the IP family, as the log has it.
func (b *Backend) name() string { return string(cmp.Or(b.cfg.Family, corev1.IPv4Protocol)) }
