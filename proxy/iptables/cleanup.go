package iptables

import (
	"context"
	"errors"

	"github.com/podarium/podarium/internal/iptables"
)

// Cleanup removes all rules and chains of iptables mode from every table; what
// others have made stays. KUBE-FIREWALL goes too, with its jumps: on our nodes
// nobody else makes it.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.applied = nil
	return b.cfg.family().tool.Remove(ctx, tables, "KUBE-")
}

// Cleanup is the Backend's for both IP families, for a node where none runs. A
// machine without ip6tables has nothing there to remove.
func Cleanup(ctx context.Context) error {
	err := iptables.IPv4.Remove(ctx, tables, "KUBE-")
	if !iptables.IPv6.Works(ctx) {
		return err
	}
	return errors.Join(err, iptables.IPv6.Remove(ctx, tables, "KUBE-"))
}
