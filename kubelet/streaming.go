package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	podnetns "github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/kubelet/runtime"
)

const (
	streamIdle     = 4 * time.Hour    // after which a silent connection is closed
	streamCreation = 30 * time.Second // which a client has to open its streams
)

// serveExec speaks SPDY (v1 to v4.channel.k8s.io) and WebSocket (v5.channel.k8s.io and older).
func (k *Kubelet) serveExec(w http.ResponseWriter, r *http.Request) {
	id, options, ok := k.remoteCommand(w, r)
	if !ok {
		return
	}
	command := r.URL.Query()["command"]
	if wantsProtocol(r, protocolV5) {
		serveV5(w, r, options, func(ctx context.Context, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
			return streamer{k}.ExecInContainer(ctx, "", "", id, command, in, out, errs, options.TTY, resize, 0)
		})
		return
	}
	remotecommand.ServeExec(lingering{w}, r, streamer{k}, "", "", id, command, options, streamIdle, streamCreation,
		remotecommand.SupportedStreamingProtocols)
}

func (k *Kubelet) serveAttach(w http.ResponseWriter, r *http.Request) {
	id, options, ok := k.remoteCommand(w, r)
	if !ok {
		return
	}
	if wantsProtocol(r, protocolV5) {
		serveV5(w, r, options, func(ctx context.Context, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error {
			return streamer{k}.AttachContainer(ctx, "", "", id, in, out, errs, options.TTY, resize)
		})
		return
	}
	remotecommand.ServeAttach(lingering{w}, r, streamer{k}, "", "", id, options, streamIdle, streamCreation,
		remotecommand.SupportedStreamingProtocols)
}

// remoteCommand reads what exec and attach have in common. The parameters are called input, output,
// error, tty here, and stdin, stdout, stderr, tty on the API server; both are understood.
func (k *Kubelet) remoteCommand(w http.ResponseWriter, r *http.Request) (string, *remotecommand.Options, bool) {
	id, err := k.runningID(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return "", nil, false
	}
	query := r.URL.Query()
	is := func(names ...string) bool {
		for _, name := range names {
			if value := query.Get(name); value == "1" || value == "true" {
				return true
			}
		}
		return false
	}
	options := &remotecommand.Options{
		Stdin: is("input", "stdin"), Stdout: is("output", "stdout"), Stderr: is("error", "stderr"), TTY: is("tty"),
	}
	if options.TTY {
		options.Stderr = false // a terminal has one output
	}
	if !options.Stdin && !options.Stdout && !options.Stderr {
		http.Error(w, "you must specify at least 1 of stdin, stdout, stderr", http.StatusBadRequest)
		return "", nil, false
	}
	return id, options, true
}

func (k *Kubelet) servePortForward(w http.ResponseWriter, r *http.Request) {
	pod := k.worker(r.PathValue("namespace"), r.PathValue("pod"))
	if pod == nil {
		http.Error(w, "pod not found", http.StatusNotFound)
		return
	}
	if wantsProtocol(r, protocolTunnel) {
		throughTunnel(w, r, func(w http.ResponseWriter, r *http.Request) {
			portforward.ServePortForward(w, r, streamer{k}, string(pod.uid), "", &portforward.V4Options{}, streamIdle, streamCreation,
				portforward.SupportedProtocols)
		})
		return
	}
	options, err := portforward.NewV4Options(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	portforward.ServePortForward(w, r, streamer{k}, string(pod.uid), "", options, streamIdle, streamCreation,
		portforward.SupportedProtocols)
}

// streamer connects the streams of a client with containers.
type streamer struct{ k *Kubelet }

func streams(in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) (runtime.Streams, func()) {
	s := runtime.Streams{TTY: tty}
	// A nil pointer in an interface is not a nil interface, hence one by one.
	if in != nil {
		s.Stdin = in
	}
	if out != nil {
		s.Stdout = out
	}
	if errs != nil {
		s.Stderr = errs
	}
	if resize == nil {
		return s, func() {}
	}
	sizes, done := make(chan runtime.Size), make(chan struct{})
	s.Resize = sizes
	go func() {
		for size := range resize {
			select {
			case sizes <- runtime.Size{Width: size.Width, Height: size.Height}:
			case <-done:
				return
			}
		}
	}()
	return s, func() { close(done) }
}

// ExecInContainer runs a command; its exit status becomes the error's.
func (s streamer) ExecInContainer(ctx context.Context, _, _, id string, command []string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize, _ time.Duration) error {
	connected, done := streams(in, out, errs, tty, resize)
	defer done()
	code, err := s.k.runtime.Exec(ctx, id, command, connected)
	if err != nil {
		if _, ok := errors.AsType[*runtime.ExecError](err); ok {
			return fmt.Errorf("OCI runtime exec failed: %w", err)
		}
		return err
	}
	if code != 0 {
		return utilexec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

// AttachContainer connects with the container's own process.
func (s streamer) AttachContainer(ctx context.Context, _, _, id string, in io.Reader, out, errs io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	connected, done := streams(in, out, errs, tty, resize)
	defer done()
	return s.k.runtime.Attach(ctx, id, connected)
}

// PortForward connects a stream with a port on the pod's own loopback interface.
func (s streamer) PortForward(ctx context.Context, uid, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	conn, err := s.dial(ctx, uid, "127.0.0.1:"+strconv.Itoa(int(port)))
	if err != nil {
		return fmt.Errorf("failed to connect to localhost:%d inside the pod: %w", port, err)
	}
	defer conn.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(conn, stream)
		if half, ok := conn.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}()
	_, err = io.Copy(stream, conn)
	return err
}

func (s streamer) dial(ctx context.Context, uid, address string) (net.Conn, error) {
	s.k.mu.Lock()
	var sandbox *sandboxRecord
	for _, w := range s.k.workers {
		if string(w.uid) == uid {
			w.mu.Lock()
			sandbox = w.sandbox
			w.mu.Unlock()
		}
	}
	s.k.mu.Unlock()
	switch {
	case sandbox == nil:
		return nil, errors.New("pod is not running")
	case sandbox.HostNetwork:
		var d net.Dialer
		return d.DialContext(ctx, "tcp", address)
	default:
		return podnetns.Dial(ctx, sandbox.netns(), "tcp", address)
	}
}
