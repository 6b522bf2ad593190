package userspace

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/podarium/podarium/proxy"
)

// portalKey names a door: a Service port, and whether only the endpoints on
// this node are behind it (traffic policy Local) or all of them.
type portalKey struct {
	name  proxy.PortName
	local bool
}

// portal is the door of a Service port: a socket on a port which the kernel
// chose, and who waits behind it.
type portal struct {
	balancer
	port   uint16
	socket io.Closer
}

// openPortal listens on all addresses of the node: where the rules send a
// packet to depends on where it came from.
func openPortal(protocol string) (*portal, error) {
	p := &portal{}
	switch protocol {
	case "tcp":
		listener, err := net.ListenTCP("tcp4", nil)
		if err != nil {
			return nil, fmt.Errorf("open portal: %w", err)
		}
		p.socket, p.port = listener, portOf(listener.Addr())
		go p.acceptTCP(listener)
	case "udp":
		conn, err := net.ListenUDP("udp4", nil)
		if err != nil {
			return nil, fmt.Errorf("open portal: %w", err)
		}
		p.socket, p.port = conn, portOf(conn.LocalAddr())
		go p.relayUDP(conn)
	default:
		return nil, fmt.Errorf("open portal: %s is not carried by userspace mode", protocol)
	}
	return p, nil
}

// close ends the door; connections which came through it go on.
func (p *portal) close() { p.socket.Close() }

func portOf(addr net.Addr) uint16 { return addrPort(addr).Port() }

func addrPort(addr net.Addr) netip.AddrPort {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.AddrPort()
	case *net.UDPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}

// dial tries endpoints one after the other, each a little more patiently than
// the one before, until one takes the connection.
func (p *portal) dial(network string, client netip.Addr, order []netip.AddrPort) (net.Conn, netip.AddrPort, error) {
	var last error
	for i, endpoint := range order {
		ctx, cancel := context.WithTimeout(context.Background(), dialTimeouts[min(i, len(dialTimeouts)-1)])
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, network, endpoint.String())
		cancel()
		if err == nil {
			return conn, endpoint, nil
		}
		last = err
	}
	return nil, netip.AddrPort{}, fmt.Errorf("no endpoint of %d took the connection of %s: %w", len(order), client, last)
}
