package cni

import (
	"context"
	"errors"

	"github.com/podarium/podarium/internal/iptables"
)

// Cleanup takes the whole pod network off a node: routes, tunnel, bridge, rules.
// The pods' cables have gone with their namespaces.
func Cleanup(ctx context.Context) error {
	_, err := SyncRoutes(nil)
	return errors.Join(
		err,
		RemoveOverlay(),
		removeVeth(DefaultBridge),
		iptables.IPv4.Remove(ctx, []string{"nat", "filter"}, "PODARIUM-", "CNI-"),
	)
}
