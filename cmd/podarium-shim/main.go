// Command podarium-shim is the parent of one container: it keeps the container's output and exit
// status while the kubelet may come and go. The kubelet starts it; package kubelet/shim tells how.
package main

import (
	"fmt"
	"os"

	"github.com/podarium/podarium/kubelet/shim"
)

const usage = `podarium-shim is started by the kubelet:

  podarium-shim serve DIR        start the container of DIR and be its parent
  podarium-shim start-pause DIR  start the first process of a pod with shareProcessNamespace
  podarium-shim pause DIR        be that process
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	const self = "/proc/self/exe"
	switch {
	case len(args) == 2 && args[0] == "serve":
		return shim.Serve(args[1])
	case len(args) == 2 && args[0] == "start-pause":
		return shim.StartPause(self, args[1])
	case len(args) == 2 && args[0] == "pause":
		shim.Pause()
		return nil
	default:
		return fmt.Errorf("unknown arguments %q\n\n%s", args, usage)
	}
}
