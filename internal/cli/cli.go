// Package cli is the command line of our programs: help that begins with
// prose, a wrong flag told in one line, and exit codes.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// NewFlagSet is a FlagSet whose --help begins with prose.
func NewFlagSet(name, help string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a wrong flag is told in one line, by ExitCode
	flags.Usage = func() {
		flags.SetOutput(os.Stdout)
		fmt.Fprint(flags.Output(), help+"\nFlags:\n")
		flags.PrintDefaults()
	}
	return flags
}

// UsageError is a wrong command line: exit code 2.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

// ParseSome parses flags and leaves the words behind them to flags.Args.
func ParseSome(flags *flag.FlagSet, args []string) error {
	usage := flags.Usage
	flags.Usage = func() {} // Parse would print it for a wrong flag too
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		usage()
		return err
	case err != nil:
		return UsageError{fmt.Errorf("%w; flags are told by --help", err)}
	}
	return nil
}

// Parse is for commands without words: one would be ignored.
func Parse(flags *flag.FlagSet, args []string) error {
	if err := ParseSome(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return UsageError{fmt.Errorf("unknown argument %q; flags are told by --help", flags.Arg(0))}
	}
	return nil
}

// ExitError is an error which has already been told; only the number is left.
type ExitError int

func (e ExitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ExitCode tells err on standard error, as "PROGRAM: what is wrong", and
// returns what the process ends with: 0, 1 for an error, 2 for a wrong command
// line, or an ExitError's own number.
func ExitCode(program string, err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if code, told := errors.AsType[ExitError](err); told {
		return int(code)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", program, err)
	if _, wrong := errors.AsType[UsageError](err); wrong {
		return 2
	}
	return 1
}
