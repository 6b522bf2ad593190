package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/lab"
)

const nodeHelp = `podarium node looks into the nodes of a lab and turns them on and off.

Usage:
  podarium node list                     nodes, addresses, process ids
  podarium node exec NODE [-- CMD …]     run a command on a node (a shell when none is given)
  podarium node stop NODE                stop its components, then the node
  podarium node start NODE               power it on again
  podarium node logs NODE COMPONENT      e.g. node-1 kube-apiserver, node-2 kube-proxy
Flags before the verb: --name NAME, for a lab which is not called "lab".

NODE may also be "world": the outside of the cluster, where the switch is.
`

func nodeCommand(ctx context.Context, args []string) error {
	name := labName()
	flags := cli.NewFlagSet("node", nodeHelp)
	labNameFlag(flags, &name)
	if err := cli.ParseSome(flags, args); err != nil {
		return err
	}
	args = flags.Args()
	verb, args := next(args)
	if verb == "list" && len(args) == 0 {
		return lab.ListNodes(ctx, name, os.Stdout)
	}
	node, args := next(args)
	if node == "" {
		fmt.Fprint(os.Stderr, nodeHelp)
		return cli.ExitError(2)
	}
	switch {
	case verb == "exec":
		if len(args) > 0 && args[0] == "--" {
			args = args[1:]
		}
		return lab.Exec(name, node, args)
	case verb == "stop" && len(args) == 0:
		return lab.StopNode(name, node)
	case verb == "start" && len(args) == 0:
		return lab.StartNode(name, node)
	case verb == "logs" && (len(args) == 1 || len(args) == 2 && args[0] == "-f"):
		return nodeLogs(name, node, args)
	}
	fmt.Fprint(os.Stderr, nodeHelp)
	return cli.ExitError(2)
}

// nodeLogs prints a component's log; with -f it goes on, as tail does.
func nodeLogs(name, node string, args []string) error {
	component := args[len(args)-1]
	path, err := lab.LogPath(name, node, component)
	if err != nil {
		return err
	}
	tail := []string{"tail", "-n", "+1", path}
	if len(args) == 2 {
		tail = []string{"tail", "-n", "+1", "-F", path}
	}
	program, err := exec.LookPath("tail")
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	return syscall.Exec(program, tail, os.Environ())
}

func next(args []string) (string, []string) {
	if len(args) == 0 {
		return "", nil
	}
	return args[0], args[1:]
}
