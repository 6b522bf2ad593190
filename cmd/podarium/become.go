package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// become is a component which is a binary of its own beside this one, and
// smaller: podarium-node and podarium-proxy run on every node, podarium-dns twice
// in every cluster. The process keeps its pid and gets the component's name.
func become(program, name string) func(context.Context, []string) error {
	return func(_ context.Context, args []string) error {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find our own path: %w", err)
		}
		path := filepath.Join(filepath.Dir(self), program)
		if err := syscall.Exec(path, append([]string{name}, args...), os.Environ()); err != nil {
			return fmt.Errorf("run %s, which `make build` puts beside podarium: %w", path, err)
		}
		return nil
	}
}
