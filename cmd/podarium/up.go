package main

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/lab"
	"github.com/podarium/podarium/lab/demo"
	"github.com/podarium/podarium/lab/world"
)

const upHelp = `podarium up starts a cluster of real nodes on this machine.

Each node is a set of namespaces with an address on a switch of their own
(node-1 192.168.56.11, node-2 .12, …); nothing of the machine's own network is
touched. It prints when each step is reached, and returns when all nodes are
Ready and cluster DNS has answered a pod. The kubectl context "podarium"
(or "podarium-NAME") becomes the current one.

A lab that ended without "podarium down" goes on with the objects it had.

Usage: podarium up [flags]
`

func upCommand(ctx context.Context, args []string) error {
	cfg := world.Default()
	cfg.Name = labName()
	flags := cli.NewFlagSet("up", upHelp)
	labNameFlag(flags, &cfg.Name)
	flags.IntVar(&cfg.Nodes, "nodes", cfg.Nodes, "number of `nodes`")
	flags.IntVar(&cfg.MaxPods, "max-pods", cfg.MaxPods, "how many `pods` a node takes")
	flags.StringVar(&cfg.ProxyMode, "proxy-mode", cfg.ProxyMode, "how Services are carried: iptables, nftables, ipvs, userspace, or none")
	flags.StringVar(&cfg.PodNetwork, "pod-network", cfg.PodNetwork, "how pods of different nodes meet: host-gw (native routing), vxlan (overlay), or none")
	prefixFlag(flags, &cfg.ClusterCIDR, "cluster-cidr", "`range` of the pods' addresses; a /24 of it for each node")
	prefixFlag(flags, &cfg.ServiceClusterIPRange, "service-cluster-ip-range", "`range` of the Services' ClusterIPs")
	if reach := os.Getenv("PODARIUM_EGRESS"); reach != "" {
		cfg.Egress = reach
	}
	flags.StringVar(&cfg.Egress, "egress", cfg.Egress, "where image pulls may go: any, or loopback (registries on this machine); $PODARIUM_EGRESS says another default")
	flags.StringVar(&cfg.EtcdServers, "etcd-servers", "", "`URLs` of an etcd of your own; empty: one inside kube-apiserver")
	flags.IntVar(&cfg.Verbosity, "v", cfg.Verbosity, "log `level` of the components: 2 what changes, 4 why")
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	return lab.Up(ctx, cfg, os.Stdout)
}

const downHelp = `podarium down ends a lab and leaves nothing of it on the machine: no process,
namespace, mount, cgroup, rule, route or file.

Usage: podarium down [--name lab] [--keep-state]
`

func downCommand(_ context.Context, args []string) error {
	name := labName()
	flags := cli.NewFlagSet("down", downHelp)
	labNameFlag(flags, &name)
	keep := flags.Bool("keep-state", false, "keep the cluster's objects for the next up")
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	found, err := lab.Down(name, *keep)
	if err == nil && !found {
		fmt.Printf("No lab %q is here.\n", name)
	}
	return err
}

const demoHelp = `podarium demo tells how a pod reaches a Service by name, on the running lab, with
what the machine really shows at each step. It ends with an error when a step is
not as told, and removes what it made.

Usage: podarium demo [--name lab]
`

func demoCommand(ctx context.Context, args []string) error {
	name := labName()
	flags := cli.NewFlagSet("demo", demoHelp)
	labNameFlag(flags, &name)
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	return demo.Run(ctx, name, os.Stdout)
}

const statusHelp = `podarium status shows what a lab consists of: nodes, their processes, memory.

Usage: podarium status [--name lab]
`

func statusCommand(ctx context.Context, args []string) error {
	name := labName()
	flags := cli.NewFlagSet("status", statusHelp)
	labNameFlag(flags, &name)
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	return lab.Status(ctx, name, os.Stdout)
}

// labName is the lab which is meant when --name is not given: $PODARIUM_LAB, or
// "lab".
func labName() string {
	if name := os.Getenv("PODARIUM_LAB"); name != "" {
		return name
	}
	return world.Default().Name
}

func labNameFlag(flags *flag.FlagSet, name *string) {
	flags.StringVar(name, "name", *name, "`name` of the lab; $PODARIUM_LAB says another default")
}

func prefixFlag(flags *flag.FlagSet, prefix *netip.Prefix, name, usage string) {
	flags.Func(name, fmt.Sprintf("%s (default %s)", usage, prefix), func(value string) error {
		parsed, err := netip.ParsePrefix(value)
		if err != nil {
			return fmt.Errorf("%w: write it like %s", err, *prefix)
		}
		*prefix = parsed.Masked()
		return nil
	})
}
