package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"testing"
)

// output is what run writes to a stream of the process.
func output(t *testing.T, stream **os.File, run func()) string {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := *stream
	*stream = write
	run()
	*stream = old
	write.Close()
	data, err := io.ReadAll(read)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestExitCode: what a shell sees, and the one line that a person sees.
func TestExitCode(t *testing.T) {
	for _, test := range []struct {
		err  error
		code int
		told string
	}{
		{nil, 0, ""},
		{flag.ErrHelp, 0, ""},
		{errors.New("no lab"), 1, "podarium up: no lab\n"},
		{UsageError{errors.New("unknown argument")}, 2, "podarium up: unknown argument\n"},
		{fmt.Errorf("read flags: %w", UsageError{errors.New("no range")}), 2, "podarium up: read flags: no range\n"},
		{ExitError(7), 7, ""},
		{fmt.Errorf("run it: %w", ExitError(137)), 137, ""},
	} {
		var code int
		told := output(t, &os.Stderr, func() { code = ExitCode("podarium up", test.err) })
		if code != test.code || told != test.told {
			t.Errorf("%v: exit code %d and %q, want %d and %q", test.err, code, told, test.code, test.told)
		}
	}
}

// TestParse: a wrong flag is told without the whole help, and help begins with
// prose and is no error.
func TestParse(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string // of the error
		code int
	}{
		{[]string{"--nodes", "2"}, "", 0},
		{[]string{"--nodes", "many"}, `invalid value "many" for flag --nodes: parse error; flags are told by --help`, 2},
		{[]string{"--knots", "2"}, "flag provided but not defined: --knots; flags are told by --help", 2},
		{[]string{"--nodes"}, "flag needs an argument: --nodes; flags are told by --help", 2},
		{[]string{"now"}, `unknown argument "now"; flags are told by --help`, 2},
	} {
		flags := NewFlagSet("up", "podarium up starts a lab.\n")
		nodes := flags.Int("nodes", 3, "number of `nodes`")
		var err error
		told := output(t, &os.Stdout, func() { err = Parse(flags, test.args) })
		if told != "" {
			t.Errorf("%v: tells %q", test.args, told)
		}
		if err == nil && (test.want != "" || *nodes != 2) || err != nil && err.Error() != test.want {
			t.Errorf("%v: %v, want %q", test.args, err, test.want)
		}
		output(t, &os.Stderr, func() {
			if code := ExitCode("podarium up", err); code != test.code {
				t.Errorf("%v: exit code %d, want %d", test.args, code, test.code)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	flags := NewFlagSet("up", "podarium up starts a lab.\n")
	flags.Int("nodes", 3, "number of `nodes`")
	var err error
	told := output(t, &os.Stdout, func() { err = Parse(flags, []string{"--help"}) })
	const want = "podarium up starts a lab.\n\nFlags:\n  --nodes nodes\n    \tnumber of nodes (default 3)\n"
	if !errors.Is(err, flag.ErrHelp) || told != want {
		t.Errorf("%v, %q, want %q", err, told, want)
	}
}

// TestParseSome leaves the words behind the flags.
func TestParseSome(t *testing.T) {
	flags := NewFlagSet("exec", "")
	if err := ParseSome(flags, []string{"node-1", "--", "ip", "route"}); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(flags.Args()); got != "[node-1 -- ip route]" {
		t.Errorf("words %s", got)
	}
}
