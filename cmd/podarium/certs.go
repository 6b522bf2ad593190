package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/machine"
)

const certsHelp = `podarium certs shows and renews the certificates of this machine, which init or
join has made. A timer does the second every day: systemctl cat podarium-certs

  podarium certs check-expiration
  podarium certs renew [--within 720h]
`

func certsCommand(ctx context.Context, args []string) error {
	verb, args := next(args)
	flags := cli.NewFlagSet("certs "+verb, certsHelp)
	within := machine.RenewBefore
	if verb == "renew" {
		flags.DurationVar(&within, "within", within, "renew those which end within this `time`")
	}
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	switch verb {
	case "check-expiration":
		return machine.CheckExpiration("/", os.Stdout, time.Now())
	case "renew":
		if within <= 0 {
			return cli.UsageError{Err: fmt.Errorf("--within %s: must be more than nothing", within)}
		}
		return machine.New(os.Stdout).RenewCerts(ctx, within)
	default:
		fmt.Fprint(os.Stderr, certsHelp)
		return cli.ExitError(2)
	}
}
