// Package cli is the command line of our programs: help that begins with
// prose, a wrong flag told in one line, and exit codes.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
)

// Run runs a program which is one command until that ends or somebody ends it, and
// returns the exit code which the command's error asks for.
func Run(program string, command func(ctx context.Context, args []string) error) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return ExitCode(program, command(ctx, os.Args[1:]))
}

// NewFlagSet is a FlagSet whose --help begins with prose.
func NewFlagSet(name, help string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // a wrong flag is told in one line, by ExitCode
	flags.Usage = func() {
		var defaults strings.Builder
		flags.SetOutput(&defaults)
		flags.PrintDefaults()
		fmt.Print(help, "\nFlags:\n", longFlag.ReplaceAllString(defaults.String(), "  --$1"))
	}
	return flags
}

// longFlag is a flag of several letters as package flag writes it. It reads both -nodes
// and --nodes; Kubernetes' programs and our own pages write two dashes.
var (
	longFlag  = regexp.MustCompile(`(?m)^  -(\w[\w-]+)`)
	twoDashes = strings.NewReplacer(" for flag -", " for flag --", " not defined: -", " not defined: --", " argument: -", " argument: --")
)

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
		return UsageError{errors.New(twoDashes.Replace(err.Error()) + "; flags are told by --help")}
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
