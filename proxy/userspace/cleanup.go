package userspace

import (
	"context"

	"github.com/podarium/podarium/internal/iptables"
)

// Cleanup removes all chains of userspace mode and closes its portals.
func (b *Backend) Cleanup(ctx context.Context) error {
	for key, p := range b.portals {
		p.close()
		delete(b.portals, key)
	}
	b.applied = nil
	return Cleanup(ctx)
}

// Cleanup removes the chains on a node where no backend runs.
func Cleanup(ctx context.Context) error {
	return iptables.IPv4.Remove(ctx, []string{"filter", "nat"}, "KUBE-")
}
