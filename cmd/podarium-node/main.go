// Command podarium-node is the two components which run on every node: kubelet
// and kube-proxy. As a binary of its own it carries neither etcd nor kubectl:
// the kubelet of a node with 50 pods holds 55 MiB instead of 89.
//
// Started as "kubelet" or "kube-proxy" (argv[0]) it is that component.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/podarium/podarium/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string) int {
	switch name := filepath.Base(args[0]); name {
	case "kubelet":
		return cli.ExitCode("podarium kubelet", kubeletCommand(ctx, args[1:]))
	case "kube-proxy":
		return cli.ExitCode("podarium proxy", proxyCommand(ctx, args[1:]))
	default:
		wrong := fmt.Errorf("started as %s; `podarium kubelet` and `podarium proxy` start it by the names kubelet and kube-proxy", name)
		return cli.ExitCode(name, cli.UsageError{Err: wrong})
	}
}
