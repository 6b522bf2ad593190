package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxQuery is the longest datagram read: a question is 300 bytes at most, and
// EDNS0 options (padding, cookies) rarely double that.
const maxQuery = 4096

// listen opens one UDP socket per CPU on the same port (SO_REUSEPORT: the
// kernel gives each client to one of them, so no two goroutines wait for one
// queue), and one TCP listener.
func listen(ctx context.Context, address string) ([]*net.UDPConn, net.Listener, error) {
	config := net.ListenConfig{Control: shareable}
	var packets []*net.UDPConn
	abandon := func(what string, err error) ([]*net.UDPConn, net.Listener, error) {
		for _, conn := range packets {
			conn.Close()
		}
		return nil, nil, fmt.Errorf("listen on %s %s: %w", what, address, err)
	}
	for range runtime.GOMAXPROCS(0) {
		conn, err := config.ListenPacket(ctx, "udp", address)
		if err != nil {
			return abandon("UDP", err)
		}
		packets = append(packets, conn.(*net.UDPConn))
		address = conn.LocalAddr().String() // ":0" is one port for all
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return abandon("TCP", err)
	}
	return packets, listener, nil
}

// shareable also asks for the address each datagram was sent to: a machine may
// have several, and an answer must come from the one which was asked.
func shareable(network, _ string, raw syscall.RawConn) error {
	var err error
	outer := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if network == "udp6" {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
		} else {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
		}
	})
	return errors.Join(outer, err)
}

// serveUDP answers the datagrams of one socket until ctx is done. What the
// index has ready goes out at once from the same buffers, what must be
// composed in a goroutine of its own.
func (s *Server) serveUDP(ctx context.Context, conn *net.UDPConn) error {
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()
	defer conn.Close()
	var asked sync.WaitGroup
	defer asked.Wait() // answers in the making go out before their socket is gone
	packet, control, r := make([]byte, maxQuery), make([]byte, 64), new(request)
	for {
		n, c, _, client, err := conn.ReadMsgUDPAddrPort(packet, control)
		if ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("read questions: %w", err)
			}
			slog.Debug("question not read", "err", err) // an ICMP error of an earlier answer
			continue
		}
		began, back := time.Now(), sameWayBack(control[:c])
		reply, done := s.quick(r, packet[:n], false)
		if done {
			s.sendUDP(conn, client, back, packet[:n], reply, began)
			continue
		}
		s.composeUDP(&asked, conn, client, slices.Clone(back), slices.Clone(packet[:n]), began)
	}
}

func (s *Server) composeUDP(asked *sync.WaitGroup, conn *net.UDPConn, client netip.AddrPort, back, packet []byte, began time.Time) {
	select {
	case s.composing <- struct{}{}:
	default:
		s.metrics.rejected.Inc()
		return
	}
	asked.Go(func() {
		defer func() { <-s.composing }()
		reply := s.compose(packet, client.Addr().Unmap(), false)
		s.sendUDP(conn, client, back, packet, reply, began)
	})
}

func (s *Server) sendUDP(conn *net.UDPConn, client netip.AddrPort, back, packet, reply []byte, began time.Time) {
	if reply == nil {
		return
	}
	if _, _, err := conn.WriteMsgUDPAddrPort(reply, back, client); err != nil {
		slog.Debug("answer not sent", "client", client, "err", err)
	}
	s.observe(protoUDP, client, packet, reply, began)
}

// sameWayBack turns the control message of a question, which says to what
// address of ours it came, into that of its answer, which says from what
// address it goes: they are the same but for the interface, which routing
// shall choose.
func sameWayBack(control []byte) []byte {
	const index4 = unix.SizeofCmsghdr // struct in_pktinfo begins with the interface
	const index6 = unix.SizeofCmsghdr + 16
	if len(control) < unix.SizeofCmsghdr {
		return nil
	}
	level := binary.NativeEndian.Uint32(control[unix.SizeofCmsghdr-8:])
	switch {
	case level == unix.IPPROTO_IP && len(control) >= index4+4:
		clear(control[index4 : index4+4])
	case level == unix.IPPROTO_IPV6 && len(control) >= index6+4:
		clear(control[index6 : index6+4])
	default:
		return nil
	}
	return control
}
