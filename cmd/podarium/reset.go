package main

import (
	"context"
	"errors"
	"os"

	"github.com/podarium/podarium/cni"
	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/machine"
	"github.com/podarium/podarium/proxy/iptables"
	"github.com/podarium/podarium/proxy/ipvs"
	"github.com/podarium/podarium/proxy/nftables"
)

const resetHelp = `podarium reset makes this machine what it was before "podarium init" or "podarium
join": services, containers, rules, routes, links, settings and files go. On a
control plane that is the end of the cluster.

Usage: podarium reset --force
`

func resetCommand(ctx context.Context, args []string) error {
	flags := cli.NewFlagSet("reset", resetHelp)
	force := flags.Bool("force", false, "do it: nothing asks again, and nothing brings the cluster back")
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	if !*force {
		return errors.New("this ends all pods of this machine, and on a control plane the cluster: say it with --force")
	}
	return machine.New(os.Stdout).Reset(ctx, func(ctx context.Context) error {
		return errors.Join(ipvs.Cleanup(ctx), iptables.Cleanup(ctx), nftables.Cleanup(ctx), cni.Cleanup(ctx))
	})
}
