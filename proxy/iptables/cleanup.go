package iptables

import (
	"context"

	"github.com/podarium/podarium/internal/iptables"
)

// Cleanup removes all rules and chains of iptables mode from every table; what
// others have made stays. KUBE-FIREWALL goes too, with its jumps: on our nodes
// nobody else makes it.
func (b *Backend) Cleanup(ctx context.Context) error { return Cleanup(ctx) }

// Cleanup is the Backend's, for a node where none runs.
func Cleanup(ctx context.Context) error {
	return iptables.Remove(ctx, tables, "KUBE-")
}
