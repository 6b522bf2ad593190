// Command podarium-world is what a lab is made of: started as podarium-world
// it is PID 1 of the world, as node-init PID 1 of a node, as
// podarium-egress the way out for image pulls. `podarium up` starts it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/podarium/podarium/lab/world"
)

func main() {
	name := filepath.Base(os.Args[0])
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", name))
	if err := run(name, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

func run(name string, args []string) error {
	switch {
	case name == world.Argv0 && len(args) == 1:
		return world.Run(args[0])
	case name == world.NodeArgv0 && len(args) == 2:
		return world.RunNode(args[0], args[1])
	case name == world.EgressArgv0 && len(args) == 2:
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		return world.RunEgress(ctx, args[0], args[1])
	}
	return errors.New("this is started by `podarium up`, not by hand")
}
