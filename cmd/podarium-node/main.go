// Command podarium-node is the kubelet, which runs on every node. As a binary of
// its own it carries neither etcd nor kubectl: the kubelet of a node with 50 pods
// holds 55 MiB instead of 89.
package main

import (
	"os"

	"github.com/podarium/podarium/internal/cli"
)

func main() { os.Exit(cli.Run("podarium kubelet", kubeletCommand)) }
