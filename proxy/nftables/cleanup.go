package nftables

import (
	"context"
	"errors"
	"os/exec"
)

// Cleanup removes the table.
func (b *Backend) Cleanup(ctx context.Context) error { return Cleanup(ctx) }

// Cleanup is the Backend's, for a node where none runs. A machine without nft
// has no table to remove.
func Cleanup(ctx context.Context) error {
	err := run(ctx, "add table ip "+table+"\ndelete table ip "+table+"\n")
	if errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	return err
}
