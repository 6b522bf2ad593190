package userspace

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// balancer chooses endpoints of one Service port: in turn, or with session
// affinity the one which the client had.
type balancer struct {
	mu        sync.Mutex
	endpoints []netip.AddrPort
	next      int
	affinity  time.Duration
	clients   map[netip.Addr]visit
}

// visit is which endpoint a client had, and when last.
type visit struct {
	endpoint netip.AddrPort
	last     time.Time
}

// set replaces the endpoints. A client whose endpoint is gone gets another.
func (b *balancer) set(endpoints []netip.AddrPort, affinity time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Equal(endpoints, b.endpoints) && affinity == b.affinity {
		return
	}
	b.endpoints, b.affinity = endpoints, affinity
	if affinity == 0 {
		b.clients = nil
		return
	}
	kept := map[netip.Addr]visit{}
	for client, v := range b.clients {
		if slices.Contains(endpoints, v.endpoint) {
			kept[client] = v
		}
	}
	b.clients = kept
}

// order is the endpoints to try for a client, the best one first.
func (b *balancer) order(client netip.Addr, now time.Time) []netip.AddrPort {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.endpoints)
	if n == 0 {
		return nil
	}
	start := b.next % n
	if v, ok := b.clients[client]; ok && now.Sub(v.last) < b.affinity {
		start = slices.Index(b.endpoints, v.endpoint)
	} else {
		b.next = start + 1
	}
	return append(slices.Clone(b.endpoints[start:]), b.endpoints[:start]...)
}

// chosen notes which endpoint has answered a client, and forgets those who
// have not been here for the timeout.
func (b *balancer) chosen(client netip.Addr, endpoint netip.AddrPort, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.affinity == 0 {
		return
	}
	for c, v := range b.clients {
		if now.Sub(v.last) >= b.affinity {
			delete(b.clients, c)
		}
	}
	if slices.Contains(b.endpoints, endpoint) {
		b.clients[client] = visit{endpoint, now}
	}
}

// has tells whether an endpoint is still one.
func (b *balancer) has(endpoint netip.AddrPort) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Contains(b.endpoints, endpoint)
}
