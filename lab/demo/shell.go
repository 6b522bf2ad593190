package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/podarium/podarium/examples"
	"github.com/podarium/podarium/lab"
	"github.com/podarium/podarium/lab/world"
)

// shell runs commands against one lab and shows them as they are typed.
type shell struct {
	cfg   world.Config
	out   io.Writer
	began time.Time
	step  int
}

// heading begins a step.
func (s *shell) heading(format string, args ...any) {
	s.step++
	fmt.Fprintf(s.out, "\n\033[1m%2d. %s\033[0m  (%.1f s)\n", s.step, fmt.Sprintf(format, args...), time.Since(s.began).Seconds())
}

// say explains, with the values that were seen.
func (s *shell) say(format string, args ...any) {
	fmt.Fprintf(s.out, "    %s\n", fmt.Sprintf(format, args...))
}

// show prints a command and its output, indented.
func (s *shell) show(command, output string) {
	fmt.Fprintf(s.out, "    $ %s\n", command)
	for line := range strings.Lines(output) {
		fmt.Fprintf(s.out, "    │ %s\n", strings.TrimRight(line, "\n"))
	}
}

// kubectl runs and shows the bundled kubectl.
func (s *shell) kubectl(ctx context.Context, args ...string) (string, error) {
	output, err := s.quietKubectl(ctx, args...)
	s.show("kubectl "+strings.Join(args, " "), output)
	return output, err
}

// quietKubectl runs it for what only the demo wants to know.
func (s *shell) quietKubectl(ctx context.Context, args ...string) (string, error) {
	return run(s.command(ctx, args...), "kubectl "+strings.Join(args, " "))
}

func (s *shell) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = "kubectl" // the binary is kubectl under that name
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.cfg.AdminKubeconfig())
	return cmd
}

// apply gives kubectl one of the examples.
func (s *shell) apply(ctx context.Context, manifest string) error {
	data, err := examples.Manifests.ReadFile(manifest)
	if err != nil {
		return fmt.Errorf("read example: %w", err)
	}
	cmd := s.command(ctx, "apply", "-f", "-")
	cmd.Stdin = bytes.NewReader(data)
	output, err := run(cmd, "kubectl apply")
	s.show("kubectl apply -f examples/"+manifest, output)
	return err
}

// node runs a command on a node, without showing it.
func (s *shell) node(node string, command ...string) (string, error) {
	cmd, err := lab.Command(s.cfg.Name, node, command...)
	if err != nil {
		return "", err
	}
	return run(cmd, "on "+node+": "+strings.Join(command, " "))
}

// run returns standard output; an error carries what the command complained.
func run(cmd *exec.Cmd, name string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// eventually tries until check is content, for what has no watch: the rules in
// the kernel. It returns check's last complaint when the time is over.
func eventually(ctx context.Context, limit time.Duration, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}
