package main

import (
	"context"
	"fmt"
	"os"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/scheduler"
)

const schedulerHelp = `kube-scheduler gives every pod its node: of the nodes on which the pod can run,
the one where it runs best.

  podarium scheduler --kubeconfig /etc/kubernetes/scheduler.conf
`

func schedulerCommand(ctx context.Context, args []string) error {
	flags := cli.NewFlagSet("kube-scheduler", schedulerHelp)
	kubeconfig := flags.String("kubeconfig", "", "`file` which says where the API server is and who we are")
	elect := flags.Bool("leader-elect", true, "work only while holding the Lease kube-system/kube-scheduler")
	bind := flags.String("bind-address", "127.0.0.1", "`address` of /healthz")
	port := flags.Int("secure-port", 10259, "`port` of /healthz, 0 for none")
	var logs cli.LogFlags
	logs.Define(flags)
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	if err := logs.Setup(); err != nil {
		return err
	}
	cfg := scheduler.Config{LeaderElect: *elect, HealthAddress: healthAddress(*bind, *port)}
	var err error
	if cfg.Identity, err = os.Hostname(); err != nil {
		return fmt.Errorf("read host name: %w", err)
	}
	if cfg.API, err = kube.Config(*kubeconfig, "kube-scheduler"); err != nil {
		return err
	}
	return scheduler.Run(ctx, cfg)
}
