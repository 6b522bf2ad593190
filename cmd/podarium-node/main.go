// Command podarium-node is the kubelet, which runs on every node. As a binary of
// its own it carries neither etcd nor kubectl: the kubelet of a node with 50 pods
// holds 55 MiB instead of 89.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/podarium/podarium/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.ExitCode("podarium kubelet", kubeletCommand(ctx, os.Args[1:]))
	stop()
	os.Exit(code)
}
