package main

import (
	"context"

	"github.com/podarium/podarium/dns"
	"github.com/podarium/podarium/internal/kube"
)

const dnsHelp = `kube-dns answers the names of the cluster's Services and pods.

It runs in the cluster, behind the Service kube-dns, and reads the API with its
ServiceAccount; with --kubeconfig it runs anywhere else.

Usage: podarium dns [flags]
`

func dnsCommand(ctx context.Context, args []string) error {
	var cfg dns.Config
	flags := newFlagSet("dns", dnsHelp)
	kubeconfig := flags.String("kubeconfig", "", "`file` with the API server's address and our credentials; empty: the pod's ServiceAccount")
	flags.StringVar(&cfg.Domain, "cluster-domain", "cluster.local", "the cluster's `domain`")
	flags.StringVar(&cfg.Address, "bind-address", ":53", "`address` of the DNS server, UDP and TCP")
	flags.StringVar(&cfg.HealthAddress, "health-address", ":8080", "`address` of /healthz and /readyz")
	flags.StringVar(&cfg.ResolvConf, "resolv-conf", "/etc/resolv.conf", "`file` that names the upstreams for all other names")
	verbosity := flags.Int("v", 2, "log `level`: 2 what changes, 4 why")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	setupLogging(*verbosity)
	client, err := kube.Client(*kubeconfig, "kube-dns")
	if err != nil {
		return err
	}
	cfg.Client = client
	return dns.Run(ctx, cfg)
}
