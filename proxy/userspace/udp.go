package userspace

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// udpIdle is how long a client's flow is kept after its last packet: UDP has
// no end.
const udpIdle = 10 * time.Second

// flows are the clients of a UDP portal, each with a socket of its own to its
// endpoint, so that answers find their way back.
type flows struct {
	mu   sync.Mutex
	byIP map[netip.AddrPort]*flow
}

type flow struct {
	conn     net.Conn
	endpoint netip.AddrPort
}

// relayUDP passes packets on until the portal is closed.
func (p *portal) relayUDP(conn *net.UDPConn) {
	f := &flows{byIP: map[netip.AddrPort]*flow{}}
	defer f.closeAll()
	buffer := make([]byte, 64<<10)
	for {
		n, client, err := conn.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // such as the ICMP answer to one of ours
		}
		current, err := p.flow(f, conn, client)
		if err != nil {
			slog.Debug("packet not carried", "err", err)
			continue
		}
		_ = current.conn.SetReadDeadline(time.Now().Add(udpIdle)) // fails on a closed one, as the write does
		if _, err := current.conn.Write(buffer[:n]); err != nil {
			slog.Debug("packet not carried", "endpoint", current.endpoint, "err", err)
		}
	}
}

// flow is the client's, or a new one to the endpoint whose turn it is. One
// whose endpoint is gone is not used any more.
func (p *portal) flow(f *flows, portal *net.UDPConn, client netip.AddrPort) (*flow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if current := f.byIP[client]; current != nil {
		if p.has(current.endpoint) {
			return current, nil
		}
		current.conn.Close()
	}
	conn, endpoint, err := p.dial("udp", client.Addr(), p.order(client.Addr(), time.Now()))
	if err != nil {
		return nil, err
	}
	p.chosen(client.Addr(), endpoint, time.Now())
	current := &flow{conn, endpoint}
	f.byIP[client] = current
	go f.answer(portal, client, current)
	return current, nil
}

// answer carries an endpoint's packets back until the flow is idle.
func (f *flows) answer(portal *net.UDPConn, client netip.AddrPort, current *flow) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := current.conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
			break
		}
		if err != nil {
			continue // refused: another packet may fare better, the deadline ends this
		}
		if _, err := portal.WriteToUDPAddrPort(buffer[:n], client); err != nil {
			break
		}
	}
	current.conn.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byIP[client] == current {
		delete(f.byIP, client)
	}
}

func (f *flows) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, current := range f.byIP {
		current.conn.Close()
	}
}
