package runtime

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/containerd/console"
	runc "github.com/containerd/go-runc"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/kubelet/shim"
)

// Size is a terminal's size in characters.
type Size struct{ Width, Height uint16 }

// Streams connect a client with a process. Any of them may be nil.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan Size
}

// Exec runs one more process in a container and returns its exit status. When ctx ends first, the
// process is killed.
func (r *Runtime) Exec(ctx context.Context, id string, args []string, streams Streams) (int, error) {
	process, err := r.process(id)
	if err != nil {
		return 0, err
	}
	process.Args, process.Terminal = args, streams.TTY
	dir, err := os.MkdirTemp(r.bundleDir(id), "exec-")
	if err != nil {
		return 0, fmt.Errorf("run command in container: %w", err)
	}
	defer os.RemoveAll(dir)
	e := execution{runtime: r, id: id, process: process, streams: streams, dir: dir}
	if streams.TTY {
		return e.withTerminal(ctx)
	}
	return e.withPipes(ctx)
}

// process is how the container's own process was set up: user, environment, capabilities.
func (r *Runtime) process(id string) (specs.Process, error) {
	file, err := os.Open(filepath.Join(r.bundleDir(id), configFile))
	if err != nil {
		return specs.Process{}, fmt.Errorf("read specification of container: %w", err)
	}
	defer file.Close()
	var spec specs.Spec
	if err := readJSON(file, &spec); err != nil {
		return specs.Process{}, fmt.Errorf("read specification of container: %w", err)
	}
	return *spec.Process, nil
}

type execution struct {
	runtime *Runtime
	id      string
	process specs.Process
	streams Streams
	dir     string
}

func (e execution) withPipes(ctx context.Context) (int, error) {
	pipes, err := runc.NewPipeIO(int(e.process.User.UID), int(e.process.User.GID), func(o *runc.IOOption) {
		o.OpenStdin, o.OpenStdout, o.OpenStderr = e.streams.Stdin != nil, e.streams.Stdout != nil, e.streams.Stderr != nil
	})
	if err != nil {
		return 0, fmt.Errorf("run command in container: %w", err)
	}
	defer pipes.Close()
	if e.streams.Stdin != nil {
		// Not awaited: a client may keep its input open after the command has ended.
		go func() {
			_, _ = io.Copy(pipes.Stdin(), e.streams.Stdin)
			pipes.Stdin().Close()
		}()
	}
	var output sync.WaitGroup
	for _, pair := range []struct {
		to   io.Writer
		from io.Reader
	}{{e.streams.Stdout, pipes.Stdout()}, {e.streams.Stderr, pipes.Stderr()}} {
		if pair.to != nil {
			output.Go(func() { _, _ = io.Copy(pair.to, pair.from) })
		}
	}
	// runc takes /dev/null for what the client did not ask for, so its own complaints need a log.
	code, err := e.run(ctx, &runc.ExecOpts{IO: pipes})
	if ctx.Err() != nil {
		pipes.Close() // children of a killed command may hold the other ends for ever
	}
	output.Wait()
	return code, err
}

// withTerminal gives runc one end of a terminal of ours. runc makes a second one inside the container
// and copies between the two; it follows our changes of size by the signal SIGWINCH.
func (e execution) withTerminal(ctx context.Context) (int, error) {
	ours, slavePath, err := console.NewPty()
	if err != nil {
		return 0, fmt.Errorf("open terminal: %w", err)
	}
	defer ours.Close()
	slave, err := os.OpenFile(slavePath, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return 0, fmt.Errorf("open terminal: %w", err)
	}
	finished := make(chan struct{})
	var copying sync.WaitGroup
	copying.Go(func() { e.copyTerminal(ours, finished) })
	code, err := e.run(ctx, &runc.ExecOpts{IO: terminalIO{slave}})
	slave.Close() // the last one to hold it: copyTerminal comes to its end
	close(finished)
	copying.Wait()
	return code, err
}

// terminalIO makes a terminal runc's controlling one. A client has no separate streams then.
type terminalIO struct{ slave *os.File }

func (t terminalIO) Close() error          { return t.slave.Close() }
func (t terminalIO) Stdin() io.WriteCloser { return nil }
func (t terminalIO) Stdout() io.ReadCloser { return nil }
func (t terminalIO) Stderr() io.ReadCloser { return nil }

// Set is called by go-runc before it starts the command.
func (t terminalIO) Set(cmd *exec.Cmd) {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.slave, t.slave, t.slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
}

// copyTerminal runs until the command has closed its terminal.
func (e execution) copyTerminal(terminal console.Console, finished <-chan struct{}) {
	if e.streams.Stdin != nil {
		go func() { _, _ = io.Copy(terminal, e.streams.Stdin) }()
	}
	go func() {
		for {
			select {
			case <-finished:
				return
			case size, ok := <-e.streams.Resize:
				if !ok {
					return
				}
				// A terminal without a command any more: nobody sees its size.
				_ = terminal.Resize(console.WinSize{Width: size.Width, Height: size.Height})
			}
		}
	}()
	if e.streams.Stdout != nil {
		_, _ = io.Copy(e.streams.Stdout, terminal)
	} else {
		_, _ = io.Copy(io.Discard, terminal)
	}
}

// run executes runc exec. Its exit status is the command's.
func (e execution) run(ctx context.Context, opts *runc.ExecOpts) (int, error) {
	opts.PidFile = filepath.Join(e.dir, "pid")
	opts.LogFile = filepath.Join(e.dir, "log")
	stop := context.AfterFunc(ctx, func() {
		// runc itself dies with ctx; the process in the container has to be told.
		if pid, err := runc.ReadPidFile(opts.PidFile); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	defer stop()
	client := *e.runtime.runc
	client.LogFormat = runc.JSON
	err := client.Exec(ctx, e.id, e.process, opts)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if exit, ok := errors.AsType[*runc.ExitError](err); ok {
		if message := execComplaint(opts.LogFile); message != "" {
			return exit.Status, &ExecError{message}
		}
		return exit.Status, nil
	}
	return 0, err
}

// ExecError says that the command could not be started.
type ExecError struct{ Message string }

func (e *ExecError) Error() string { return e.Message }

// execComplaint is what runc wrote into its log: nothing when the command started.
func execComplaint(file string) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	message := ""
	for line := range bytes.Lines(data) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && entry.Level == "error" {
			message = entry.Msg
		}
	}
	return message
}

// Attach connects a client with the container's own process, until it ends or the client goes.
func (r *Runtime) Attach(ctx context.Context, id string, streams Streams) error {
	conn, err := r.dial(id)
	if err != nil {
		return fmt.Errorf("attach to container: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	if _, err := conn.Write([]byte{shim.HelloAttach}); err != nil {
		return fmt.Errorf("attach to container: %w", err)
	}
	var sending sync.Mutex
	send := func(kind shim.Kind, data []byte) error {
		sending.Lock()
		defer sending.Unlock()
		return shim.WriteFrame(conn, kind, data)
	}
	if streams.Stdin != nil {
		go sendStdin(streams.Stdin, send)
	}
	if streams.Resize != nil {
		go sendSizes(ctx, streams.Resize, send)
	}
	for {
		kind, data, err := shim.ReadFrame(conn)
		if err != nil {
			return nil // the container has ended, or the client has gone
		}
		to := streams.Stdout
		if kind == shim.Stderr {
			to = streams.Stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(data); err != nil {
			return nil
		}
	}
}

func sendStdin(stdin io.Reader, send func(shim.Kind, []byte) error) {
	buffer := make([]byte, 8<<10)
	for {
		n, err := stdin.Read(buffer)
		if n > 0 && send(shim.Stdin, buffer[:n]) != nil {
			return
		}
		if err != nil {
			_ = send(shim.CloseStdin, nil) // the connection's end says the same
			return
		}
	}
}

func sendSizes(ctx context.Context, sizes <-chan Size, send func(shim.Kind, []byte) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case size, ok := <-sizes:
			if !ok {
				return
			}
			frame := binary.BigEndian.AppendUint16(nil, size.Width)
			if send(shim.Resize, binary.BigEndian.AppendUint16(frame, size.Height)) != nil {
				return
			}
		}
	}
}
