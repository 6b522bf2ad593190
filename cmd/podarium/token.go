package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/machine"
)

const tokenHelp = `podarium token makes and shows the secrets with which machines join a cluster.

  podarium token create [TOKEN] [--print-join-command]   a new one, or the one that is named
  podarium token list
  podarium token delete TOKEN …                          or only the part before the dot
  podarium token generate                                one that no cluster knows yet
`

func tokenCommand(ctx context.Context, args []string) error {
	verb, args := next(args)
	var token machine.Token
	flags := cli.NewFlagSet("token "+verb, tokenHelp)
	kubeconfig := flags.String("kubeconfig", machine.AdminConf, "`file` with the administrator's credentials")
	ttl, print := 24*time.Hour, false
	if verb == "create" {
		flags.DurationVar(&ttl, "ttl", ttl, "`time` until it expires; 0: never")
		flags.StringVar(&token.Description, "description", "", "`words` for whoever lists it")
		listFlag(flags, &token.Groups, "groups", "`groups` of whoever uses it; default: system:bootstrappers:kubeadm:default-node-token")
		listFlag(flags, &token.Usages, "usages", "what it is for; default: signing,authentication")
		flags.BoolVar(&print, "print-join-command", false, "say the whole command instead of the token")
	}
	words, err := parseMixed(flags, args)
	if err != nil {
		return err
	}
	token.TTL = ttl
	switch {
	case verb == "generate" && len(words) == 0:
		fmt.Println(machine.GenerateToken())
		return nil
	case verb == "create" && len(words) <= 1:
		if len(words) == 1 {
			token.Value = words[0]
		}
		return createToken(ctx, *kubeconfig, token, print)
	case verb == "list" && len(words) == 0, verb == "delete" && len(words) > 0:
	default:
		fmt.Fprint(os.Stderr, tokenHelp)
		return cli.ExitError(2)
	}
	client, err := adminClient(*kubeconfig)
	if err != nil {
		return err
	}
	if verb == "list" {
		return machine.ListTokens(ctx, client, os.Stdout, time.Now())
	}
	var errs []error
	for _, word := range words {
		errs = append(errs, machine.DeleteToken(ctx, client, word))
	}
	return errors.Join(errs...)
}

func createToken(ctx context.Context, kubeconfig string, token machine.Token, wholeCommand bool) error {
	client, err := adminClient(kubeconfig)
	if err != nil {
		return err
	}
	cluster, hash, err := machine.ThisCluster()
	if wholeCommand && err != nil { // before a token is made which nobody sees
		return err
	}
	if token, err = machine.CreateToken(ctx, client, token); err != nil {
		return err
	}
	if wholeCommand {
		fmt.Println(machine.JoinCommand(cluster, token, hash))
	} else {
		fmt.Println(token.Value)
	}
	return nil
}

// adminClient needs a file: within a pod, nobody is an administrator.
func adminClient(kubeconfig string) (kubernetes.Interface, error) {
	if _, err := os.Stat(kubeconfig); err != nil {
		return nil, fmt.Errorf("%w: run this on the control plane as root, or say --kubeconfig", err)
	}
	return kube.Client(kubeconfig, "podarium")
}

// parseMixed lets flags and words come in any order.
func parseMixed(flags *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := cli.ParseSome(flags, args); err != nil {
			return nil, err
		}
		if args = flags.Args(); len(args) == 0 {
			return words, nil
		}
		words, args = append(words, args[0]), args[1:]
	}
}
