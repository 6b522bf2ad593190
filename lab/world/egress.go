package world

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// egressSocket is where a node's kubelet finds the way out for image pulls.
// It is a file and not an address, so that no pod can find it.
const egressSocket = "/run/podarium/egress.sock"

// egressDialTimeout bounds how long a registry may take to accept.
const egressDialTimeout = 30 * time.Second

// RunEgress answers HTTP CONNECT (RFC 9110 §9.3.6) on a unix socket and dials
// from the network namespace it was started in, the machine's: the only way
// out of a lab, for the kubelets' pulls alone. With reach "loopback" it leads no
// further than to the machine itself, and asks no resolver.
func RunEgress(ctx context.Context, socket, reach string) error {
	if err := os.RemoveAll(socket); err != nil {
		return fmt.Errorf("clear egress socket: %w", err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("open egress socket: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return fmt.Errorf("protect egress socket: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { connect(w, r, reach) }), ReadHeaderTimeout: egressDialTimeout}
	go func() { <-ctx.Done(); server.Close() }()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve egress: %w", err)
	}
	return nil
}

// connect dials what the client asked for and copies both ways.
func connect(w http.ResponseWriter, req *http.Request, reach string) {
	if req.Method != http.MethodConnect {
		http.Error(w, "only CONNECT is answered here", http.StatusMethodNotAllowed)
		return
	}
	if reach == "loopback" && !isLoopback(req.Host) {
		http.Error(w, "this lab reaches only registries on the machine itself (podarium up --egress loopback)", http.StatusForbidden)
		return
	}
	upstream, err := net.DialTimeout("tcp", req.Host, egressDialTimeout)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer upstream.Close()
	client, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		slog.Error("take over egress connection", "err", err)
		return
	}
	defer client.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		slog.Debug("egress client went away", "err", err)
		return
	}
	var both sync.WaitGroup
	both.Go(func() { copyAndClose(upstream, buffered) })
	both.Go(func() { copyAndClose(client, upstream) })
	both.Wait()
}

func isLoopback(hostPort string) bool {
	addr, err := netip.ParseAddrPort(hostPort)
	return err == nil && addr.Addr().IsLoopback()
}

// copyAndClose passes the end of one direction on, so that the other ends too.
func copyAndClose(to net.Conn, from io.Reader) {
	if _, err := io.Copy(to, from); err != nil {
		slog.Debug("egress connection ended", "err", err)
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the peer may be gone
	}
}
