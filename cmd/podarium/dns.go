package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// dnsCommand becomes podarium-dns, which lies beside this binary: a server of
// its own, small enough to run twice in every cluster.
func dnsCommand(_ context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find our own path: %w", err)
	}
	program := filepath.Join(filepath.Dir(self), "podarium-dns")
	if err := syscall.Exec(program, append([]string{"kube-dns"}, args...), os.Environ()); err != nil {
		return fmt.Errorf("run %s, which `make build` puts beside podarium: %w", program, err)
	}
	return nil
}
