package dns

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxStreams is how many TCP connections are open at once; one more is
	// closed at once, so that idle clients cannot use up all memory.
	maxStreams = 1000
	// idleStream is how long a client may keep a connection without asking
	// (RFC 7766 §6.2.3: "of the order of a few seconds").
	idleStream = 10 * time.Second
)

// serveTCP answers connections until ctx is done.
func (s *Server) serveTCP(ctx context.Context, listener net.Listener) error {
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	open := make(chan struct{}, maxStreams)
	var streams sync.WaitGroup
	defer streams.Wait()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept connections: %w", err)
		}
		if err != nil {
			slog.Debug("connection not accepted", "err", err)
			continue
		}
		select {
		case open <- struct{}{}:
			streams.Go(func() {
				defer func() { <-open }()
				s.serveStream(ctx, conn)
			})
		default:
			conn.Close()
		}
	}
}

// stream is one TCP connection. Each message on it stands behind its length;
// a client may send many before it reads an answer, and answers come as they
// are found, not in the order of the questions (RFC 7766 §6.2.1.1).
type stream struct {
	conn   net.Conn
	client netip.AddrPort
	mu     sync.Mutex // one answer is written at a time
}

func (s *Server) serveStream(ctx context.Context, conn net.Conn) {
	st := &stream{conn: conn, client: conn.RemoteAddr().(*net.TCPAddr).AddrPort()}
	var asked sync.WaitGroup
	defer conn.Close()
	defer asked.Wait() // a client may shut its side down and still wait for answers
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	in, r := bufio.NewReaderSize(conn, maxQuery), new(request)
	for {
		packet, err := st.read(ctx, in)
		if err != nil {
			return
		}
		began := time.Now()
		if reply, done := s.quick(r, packet, true); done {
			s.sendTCP(st, packet, reply, began)
			continue
		}
		s.composing <- struct{}{} // a full house makes the client wait
		asked.Go(func() {
			defer func() { <-s.composing }()
			s.sendTCP(st, packet, s.compose(packet, st.client.Addr().Unmap(), true), began)
		})
	}
}

func (st *stream) read(ctx context.Context, in *bufio.Reader) ([]byte, error) {
	if err := st.conn.SetReadDeadline(time.Now().Add(idleStream)); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // the deadline just set may have replaced the last one
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return nil, err
	}
	packet := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(in, packet)
	return packet, err
}

func (s *Server) sendTCP(st *stream, packet, reply []byte, began time.Time) {
	if reply == nil {
		return
	}
	message := append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply))), reply...)
	st.mu.Lock()
	defer st.mu.Unlock()
	_ = st.conn.SetWriteDeadline(time.Now().Add(idleStream))
	if _, err := st.conn.Write(message); err != nil {
		slog.Debug("answer not sent", "client", st.client, "err", err)
		return
	}
	s.observe(protoTCP, st.client, packet, reply, began)
}
