package nftables

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
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
	full := b.applied == nil || b.applied.clash || difference(b.applied.fixed, fixed) != ""
	ipFamily := cmp.Or(b.cfg.Family, corev1.IPv4Protocol)
	slog.Info("Syncing nftables rules", "ipFamily", ipFamily, "fullSync", full)
	wanted, text := b.applied, ""
	if !full {
		text = wanted.change(snapshot, b.cfg)
	}
	if full || wanted.clash {
		have, err := list(ctx, b.cfg.family())
		if err != nil {
			return err
		}
		wanted = newParts(fixed, snapshot, b.cfg)
		text = everything(wanted.whole(), have)
	}
	if text == "" {
		return nil
	}
	b.applied = nil // until we know better
	slog.Info("Reloading service nftables data", "ipFamily", ipFamily, "numServices", len(snapshot.Ports), "numEndpoints", snapshot.Endpoints,
		"numCommands", strings.Count(text, "\n"))
	if err := run(ctx, text); err != nil {
		return fmt.Errorf("apply rules: %w", err)
	}
	b.applied = wanted
	return nil
}

// Check tells whether the table is still there with its hooks.
func (b *Backend) Check(ctx context.Context) (bool, error) {
	have, err := list(ctx, b.cfg.family())
	if err != nil {
		return false, err
	}
	if slices.Contains(have.chains, servicesChain) {
		return true, nil
	}
	b.applied = nil
	return false, nil
}

// run gives nft a transaction: all of it happens, or nothing.
func run(ctx context.Context, text string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("nft -f: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}

// list reads the names of what is in the table; none when there is no table.
func list(ctx context.Context, f family) (existing, error) {
	var have existing
	cmd := exec.CommandContext(ctx, "nft", "--json", "--terse", "list", "table", f.ip, table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		if strings.Contains(stderr.String(), "No such file or directory") { // nft is not localized
			return have, nil
		}
		return have, fmt.Errorf("nft list table %s: %w: %s", f.table(), err, strings.TrimSpace(stderr.String()))
	}
	var answer struct {
		Nftables []map[string]json.RawMessage `json:"nftables"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return have, fmt.Errorf("read nft's answer: %w", err)
	}
	for _, object := range answer.Nftables {
		for kind, raw := range object {
			var named struct {
				Name string `json:"name"`
			}
			if json.Unmarshal(raw, &named) != nil {
				continue // not an object with a name, such as the version line
			}
			switch kind {
			case "chain":
				have.chains = append(have.chains, named.Name)
			case "set":
				have.sets = append(have.sets, named.Name)
			case "map":
				have.maps = append(have.maps, named.Name)
			}
		}
	}
	return have, nil
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
