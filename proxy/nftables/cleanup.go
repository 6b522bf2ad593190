package nftables

import (
	"context"
	"errors"
	"os/exec"
)

// Cleanup removes the table.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.applied, b.unused = nil, leftovers{}
	return remove(ctx, b.cfg.family())
}

// Cleanup is the Backend's for both IP families, for a node where none runs. A
// machine without nft has no table to remove.
func Cleanup(ctx context.Context) error {
	err := errors.Join(remove(ctx, ipv4), remove(ctx, ipv6))
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	return err
}

func remove(ctx context.Context, f family) error {
	return run(ctx, "add table "+f.table()+"\ndelete table "+f.table()+"\n")
}
