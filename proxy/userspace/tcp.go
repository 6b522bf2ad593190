package userspace

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// dialTimeouts are how long the first, the second, … endpoint may take to
// answer, as kube-proxy had them.
var dialTimeouts = []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}

// acceptPause is how long to wait when a connection can not be accepted, which
// is when too many files are open: the next try would fail as well. It waits in
// the kernel meanwhile.
const acceptPause = 100 * time.Millisecond

// acceptTCP takes connections until the portal is closed.
func (p *portal) acceptTCP(listener *net.TCPListener) {
	for {
		conn, err := listener.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			slog.Error("connection not accepted", "err", err)
			<-time.After(acceptPause)
			continue
		}
		go p.carryTCP(conn)
	}
}

// carryTCP connects a client with the first endpoint that takes it.
func (p *portal) carryTCP(client *net.TCPConn) {
	defer client.Close()
	from := addrPort(client.RemoteAddr()).Addr()
	server, endpoint, err := p.dial("tcp", from, p.order(from, time.Now()))
	if err != nil {
		slog.Debug("connection not carried", "err", err)
		return
	}
	defer server.Close()
	p.chosen(from, endpoint, time.Now())
	var both sync.WaitGroup
	both.Go(func() { copyHalf(server, client) })
	both.Go(func() { copyHalf(client, server) })
	both.Wait()
}

// copyHalf carries one direction and passes its end on.
func copyHalf(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		slog.Debug("connection ended", "err", err)
	}
	if half, ok := to.(*net.TCPConn); ok {
		_ = half.CloseWrite() // the peer may be gone
	}
}
