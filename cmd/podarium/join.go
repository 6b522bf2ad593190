package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/machine"
	"github.com/podarium/podarium/machine/components"
)

const joinHelp = `podarium join makes this machine a node of a cluster. The command to type is told
by "podarium init", and by "podarium token create --print-join-command".

  podarium join 192.168.56.11:6443 --token abcdef.0123456789abcdef \
      --discovery-token-ca-cert-hash sha256:1234…cdef

The hash says which CA is to be trusted, the token who asks: with both, the
kubelet gets a certificate, and from then on needs neither.

It can be run again: what is there stays, what is missing is made.

Usage: podarium join ADDRESS [flags]
`

func joinCommand(ctx context.Context, args []string) error {
	var cfg machine.JoinConfig
	flags := cli.NewFlagSet("join", joinHelp)
	flags.StringVar(&cfg.Token, "token", "", "bootstrap `token`")
	listFlag(flags, &cfg.CAHashes, "discovery-token-ca-cert-hash", "`hash` of the CA's public key, sha256:…")
	flags.StringVar(&cfg.Node.Name, "node-name", "", "`name` of this node; default: the host name")
	addressFlag(flags, &cfg.Node.IP, "node-ip", "`address` of this node; default: the one that leads to the API server")
	listFlag(flags, &cfg.IgnoreErrors, "ignore-preflight-errors", "`checks` whose answer does not matter, comma separated; all")
	flags.IntVar(&cfg.Verbosity, "v", 2, "log `level` of the components: 2 what changes, 4 why")
	address, rest := "", args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") { // as kubeadm prints it: the address first
		address, rest = args[0], args[1:]
	}
	if err := cli.ParseSome(flags, rest); err != nil {
		return err
	}
	if words := flags.Args(); address == "" && len(words) == 1 {
		address = words[0]
	} else if len(words) > 0 {
		return cli.UsageError{Err: fmt.Errorf("unknown argument %q; flags are told by --help", words[len(words)-1])}
	}
	var err error
	if cfg.Address, err = serverAddress(address); err != nil {
		return cli.UsageError{Err: err}
	}
	if err := machine.New(os.Stdout).Join(ctx, cfg); err != nil {
		return err
	}
	fmt.Println("\nThis machine is a node of the cluster. See it on the control plane: kubectl get nodes -o wide")
	return nil
}

// serverAddress reads 192.168.56.11:6443, or the address alone.
func serverAddress(text string) (netip.AddrPort, error) {
	if text == "" {
		return netip.AddrPort{}, errors.New("say where the API server is: podarium join 192.168.56.11:6443 …")
	}
	if address, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(address, components.APIPort), nil
	}
	address, err := netip.ParseAddrPort(text)
	if err != nil {
		return address, fmt.Errorf("%q is not the address of an API server, such as 192.168.56.11:6443", text)
	}
	return address, nil
}
