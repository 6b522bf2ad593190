package kubelet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// Today's kubectl speaks WebSocket (KEP-4006), in two ways:
//
//	v5.channel.k8s.io         exec and attach: each message begins with the number of its stream
//	SPDY/3.1+portforward.k8s.io   port-forward: the messages carry the bytes of a SPDY connection
const (
	protocolV5     = "v5.channel.k8s.io"
	protocolTunnel = "SPDY/3.1+portforward.k8s.io"
)

// Streams of v5.channel.k8s.io.
const (
	channelStdin = iota
	channelStdout
	channelStderr
	channelError // the outcome, a metav1.Status, when all is over
	channelResize
	channelClose = 255 // the next byte is the stream which the client has closed
)

// maxSocketMessage bounds one message from a client, in bytes.
const maxSocketMessage = 1 << 20

func wantsProtocol(r *http.Request, protocol string) bool {
	if slices.Contains(websocket.Subprotocols(r), protocol) {
		return websocket.IsWebSocketUpgrade(r)
	}
	return false
}

func upgrade(w http.ResponseWriter, r *http.Request, protocol string) (*websocket.Conn, error) {
	upgrader := websocket.Upgrader{
		Subprotocols: []string{protocol},
		// The caller has shown a certificate or a token; a page in a browser cannot.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	return upgrader.Upgrade(w, r, nil)
}

// channelConn is one WebSocket connection with v5.channel.k8s.io on it.
type channelConn struct {
	socket  *websocket.Conn
	sending sync.Mutex
}

func (c *channelConn) send(channel byte, data []byte) error {
	c.sending.Lock()
	defer c.sending.Unlock()
	return c.socket.WriteMessage(websocket.BinaryMessage, append([]byte{channel}, data...))
}

// channelWriter is stdout or stderr on such a connection.
type channelWriter struct {
	conn    *channelConn
	channel byte
}

func (w channelWriter) Write(data []byte) (int, error) {
	return len(data), w.conn.send(w.channel, data)
}
func (w channelWriter) Close() error { return nil }

// serveV5 connects a client with what do runs, then tells the outcome.
func serveV5(w http.ResponseWriter, r *http.Request, options *remotecommand.Options, do func(ctx context.Context, in io.Reader, out, errs io.WriteCloser, resize <-chan remotecommand.TerminalSize) error) {
	socket, err := upgrade(w, r, protocolV5)
	if err != nil {
		return // the upgrader has answered
	}
	defer socket.Close()
	conn := &channelConn{socket: socket}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	read, write := io.Pipe()
	sizes := make(chan remotecommand.TerminalSize, 1)
	go func() {
		defer cancel() // the client has gone
		defer close(sizes)
		conn.receive(ctx, write, sizes)
	}()
	var in io.Reader
	var out, errs io.WriteCloser
	if options.Stdin {
		in = read
	}
	if options.Stdout {
		out = channelWriter{conn, channelStdout}
	}
	if options.Stderr {
		errs = channelWriter{conn, channelStderr}
	}
	outcome, err := json.Marshal(outcomeStatus(do(ctx, in, out, errs, sizes)))
	if err != nil {
		return
	}
	read.Close()
	if conn.send(channelError, outcome) == nil {
		message := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = socket.WriteControl(websocket.CloseMessage, message, time.Now().Add(time.Second))
	}
}

// receive sorts what comes from the client until it goes.
func (c *channelConn) receive(ctx context.Context, stdin *io.PipeWriter, sizes chan<- remotecommand.TerminalSize) {
	defer stdin.Close()
	c.socket.SetReadLimit(maxSocketMessage)
	for {
		_, message, err := c.socket.ReadMessage()
		if err != nil {
			return
		}
		if len(message) == 0 {
			continue
		}
		switch data := message[1:]; message[0] {
		case channelStdin:
			// A command which does not read any more has closed its end; the rest is dropped.
			_, _ = stdin.Write(data)
		case channelClose:
			if len(data) > 0 && data[0] == channelStdin {
				stdin.Close()
			}
		case channelResize:
			var size remotecommand.TerminalSize
			if json.Unmarshal(data, &size) != nil {
				continue
			}
			select {
			case sizes <- size:
			case <-ctx.Done():
				return
			}
		}
	}
}

// outcomeStatus is how the end of a command is told: Success, or Failure with the exit status in it.
func outcomeStatus(err error) metav1.Status {
	if err == nil {
		return metav1.Status{Status: metav1.StatusSuccess}
	}
	var exit utilexec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return metav1.Status{
			Status: metav1.StatusFailure, Reason: remotecommand.NonZeroExitCodeReason,
			Message: fmt.Sprintf("command terminated with non-zero exit code: %v", exit),
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{
				{Type: remotecommand.ExitCodeCauseType, Message: fmt.Sprint(exit.ExitStatus())},
			}},
		}
	}
	return metav1.Status{
		Status: metav1.StatusFailure, Reason: metav1.StatusReasonInternalError, Code: http.StatusInternalServerError,
		Message: fmt.Sprintf("Internal error occurred: error executing command in container: %v", err),
	}
}

// tunnel makes a byte stream of a WebSocket connection.
type tunnel struct {
	*websocket.Conn
	rest io.Reader
}

func (t *tunnel) Read(data []byte) (int, error) {
	for {
		if t.rest == nil {
			_, next, err := t.NextReader()
			if err != nil {
				return 0, io.EOF
			}
			t.rest = next
		}
		n, err := t.rest.Read(data)
		if errors.Is(err, io.EOF) {
			t.rest = nil
			if n == 0 {
				continue
			}
			err = nil
		}
		return n, err
	}
}

func (t *tunnel) Write(data []byte) (int, error) {
	if err := t.WriteMessage(websocket.BinaryMessage, data); err != nil {
		return 0, err
	}
	return len(data), nil
}

// SetDeadline is the one method of net.Conn which a WebSocket connection has in two halves.
func (t *tunnel) SetDeadline(at time.Time) error {
	return errors.Join(t.SetReadDeadline(at), t.SetWriteDeadline(at))
}

// tunnelled answers a request whose connection has become a tunnel: the SPDY server takes it over as it
// would take over the TCP connection.
type tunnelled struct {
	conn   *tunnel
	header http.Header
}

func (t tunnelled) Header() http.Header            { return t.header }
func (t tunnelled) WriteHeader(int)                {} // the tunnel was answered with 101 already
func (t tunnelled) Write(data []byte) (int, error) { return len(data), nil }
func (t tunnelled) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return t.conn, bufio.NewReadWriter(bufio.NewReader(t.conn), bufio.NewWriter(t.conn)), nil
}

// throughTunnel lets serve speak SPDY inside of a WebSocket connection.
func throughTunnel(w http.ResponseWriter, r *http.Request, serve func(w http.ResponseWriter, r *http.Request)) {
	socket, err := upgrade(w, r, protocolTunnel)
	if err != nil {
		return // the upgrader has answered
	}
	defer socket.Close()
	inner := r.Clone(r.Context())
	inner.Method = http.MethodPost
	inner.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"},
		"X-Stream-Protocol-Version": {"portforward.k8s.io"},
	}
	serve(tunnelled{&tunnel{Conn: socket}, http.Header{}}, inner)
}
