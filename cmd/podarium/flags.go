package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
)

// newFlagSet is a FlagSet whose --help begins with prose.
func newFlagSet(name, help string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(os.Stdout)
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), help+"\nFlags:\n")
		flags.PrintDefaults()
	}
	return flags
}

// parseFlags refuses words that are no flags, for they would be ignored.
func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return exitOnUsage(err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q; flags are told by --help", flags.Arg(0))
	}
	return nil
}

// exitOnUsage turns an error the FlagSet has printed into exit code 2.
func exitOnUsage(err error) error {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return err
	}
	return exitCode(2)
}
