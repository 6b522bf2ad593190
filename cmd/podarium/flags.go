package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// newFlagSet is a FlagSet whose --help begins with prose.
func newFlagSet(name, help string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a wrong flag is told in one line, by run
	flags.Usage = func() {
		flags.SetOutput(os.Stdout)
		fmt.Fprint(flags.Output(), help+"\nFlags:\n")
		flags.PrintDefaults()
	}
	return flags
}

// usageError is a wrong command line: exit code 2.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }

// parseSome parses flags and leaves the words behind them to flags.Args.
func parseSome(flags *flag.FlagSet, args []string) error {
	usage := flags.Usage
	flags.Usage = func() {} // Parse would print it for a wrong flag too
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage()
		return err
	case err != nil:
		return usageError{fmt.Errorf("%w; flags are told by --help", err)}
	}
	return nil
}

// parseFlags is for commands without words: one would be ignored.
func parseFlags(flags *flag.FlagSet, args []string) error {
	if err := parseSome(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return usageError{fmt.Errorf("unknown argument %q; flags are told by --help", flags.Arg(0))}
	}
	return nil
}
