package cni

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/podarium/podarium/internal/iptables"
)

// SyncMasquerade gives packets from the node's pods to the outside the node's
// own address as source, for nobody outside has a route to a pod. Inside the
// cluster (other pods, all nodes) the pod's own address stays, so that the
// other side sees who is talking.
func SyncMasquerade(ctx context.Context, pods netip.Prefix, inside []netip.Prefix) error {
	rules, _, err := iptables.IPv4.List(ctx, "nat", "POSTROUTING")
	if err != nil {
		return err
	}
	text := masqueradeRules(pods, inside, strings.Contains(rules, jumpRule(pods)+"\n"))
	if err := iptables.IPv4.Restore(ctx, []byte(text)); err != nil {
		return fmt.Errorf("write masquerade rules: %w", err)
	}
	return nil
}

// masqueradeRules is the text for iptables-restore --noflush: our own chain
// anew, and the jump to it unless it is there.
func masqueradeRules(pods netip.Prefix, inside []netip.Prefix, jumps bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*nat\n:%s - [0:0]\n", masqueradeChain)
	if !jumps {
		fmt.Fprintln(&b, jumpRule(pods))
	}
	for _, p := range sortedUnique(inside) {
		fmt.Fprintf(&b, "-A %s -d %s -m comment --comment \"inside the cluster\" -j RETURN\n", masqueradeChain, p)
	}
	fmt.Fprintf(&b, "-A %s -m comment --comment \"to the outside\" -j MASQUERADE --random-fully\n", masqueradeChain)
	fmt.Fprintln(&b, "COMMIT")
	return b.String()
}

// jumpRule is written as iptables-save prints it, so that it can be found.
func jumpRule(pods netip.Prefix) string {
	return fmt.Sprintf("-A POSTROUTING -s %s -m comment --comment \"podarium: from pods\" -j %s", pods.Masked(), masqueradeChain)
}

func sortedUnique(prefixes []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(prefixes)
	slices.SortFunc(sorted, netip.Prefix.Compare)
	return slices.Compact(sorted)
}
