package proxy

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// flow names conntrack entries that lead a client to an endpoint which is no
// longer there. TCP needs no help: its connections end with the endpoint. A
// UDP client that keeps its port (a DNS resolver) would be sent to the dead
// address for as long as it goes on asking.
type flow struct {
	service  netip.Addr // the destination the client used; not valid: any
	port     uint16
	endpoint netip.AddrPort          // where DNAT sent it; not valid: nowhere, it was never translated
	except   map[netip.AddrPort]bool // not nil: DNAT sent it anywhere but to these
}

// staleFlows compares two snapshots: endpoints of UDP Services which do not
// answer any more, and Services which had none and have some now (a client that
// asked too early has an entry without translation). The first snapshot after a
// start has nothing to compare with: what ended while no proxy ran is what leads
// to no endpoint of today. An endpoint that gets
// nothing new but still answers keeps its flows: without them, the answers that
// are on their way would reach nobody.
func staleFlows(before, after *Snapshot) []flow {
	now := map[PortName]*Port{}
	for _, p := range after.Ports {
		if p.Name.Protocol == corev1.ProtocolUDP {
			now[p.Name] = p
		}
	}
	var flows []flow
	if before != nil {
		for _, old := range before.Ports {
			p, still := now[old.Name]
			if old.Name.Protocol != corev1.ProtocolUDP || p == old {
				delete(now, old.Name) // not UDP, or nothing has changed
				continue
			}
			var alive map[netip.AddrPort]bool
			if still {
				alive = answering(p)
			}
			for endpoint := range answering(old) {
				if !alive[endpoint] {
					flows = append(flows, flowsOf(old, flow{endpoint: endpoint})...)
				}
			}
			if len(old.Reachable()) > 0 {
				delete(now, old.Name)
			}
		}
	}
	for _, p := range now { // had no endpoints before
		if len(p.Reachable()) > 0 {
			flows = append(flows, flowsOf(p, flow{})...)
		}
		if before == nil {
			flows = append(flows, flowsOf(p, flow{except: answering(p)})...)
		}
	}
	return flows
}

// drainingFlows lead to endpoints of UDP Services which get nothing new but
// still answer. Those in use may go on; but a client whose next question
// happens to come from a port it had before must not follow an old entry, so
// the idle ones are forgotten again and again until the endpoint is gone.
func drainingFlows(snapshot *Snapshot) []flow {
	var flows []flow
	for _, p := range snapshot.Ports {
		if p.Name.Protocol != corev1.ProtocolUDP {
			continue
		}
		for _, e := range p.Draining() {
			flows = append(flows, flowsOf(p, flow{endpoint: e.Address})...)
		}
	}
	return flows
}

// answering are the endpoints from which a client may still hear. A pod's other
// port is another endpoint.
func answering(p *Port) map[netip.AddrPort]bool {
	set := map[netip.AddrPort]bool{}
	for _, e := range slices.Concat(p.Reachable(), p.answering) {
		set[e.Address] = true
	}
	return set
}

// flowsOf are the ways by which a client came to where a flow leads: each
// address of the Service, and the node port on any address.
func flowsOf(p *Port, leads flow) []flow {
	var list []flow
	from := func(service netip.Addr, port uint16) {
		leads.service, leads.port = service, port
		list = append(list, leads)
	}
	from(p.ClusterIP, p.Port)
	for _, ip := range p.ExternalIPs {
		from(ip, p.Port)
	}
	for _, ip := range p.LoadBalancerIPs {
		from(ip, p.Port)
	}
	if p.NodePort != 0 {
		from(netip.Addr{}, p.NodePort)
	}
	return list
}

// udpTimeout is how long (seconds) the kernel keeps a question after its last
// packet, nf_conntrack_udp_timeout; streams have more. idleFor is how old the
// last packet must be for a flow to count as idle.
const (
	udpTimeout = 30
	idleFor    = 1
)

// forgetFlows deletes them from the kernel's table; of those that drain, only
// the idle ones.
func forgetFlows(family corev1.IPFamily, stale, draining []flow) {
	if len(stale)+len(draining) == 0 {
		return
	}
	inet := netlink.InetFamily(netlink.FAMILY_V4)
	if family == corev1.IPv6Protocol {
		inet = netlink.FAMILY_V6
	}
	n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, inet, flowFilter{stale, draining})
	if err != nil {
		slog.Error("stale conntrack entries not removed", "err", err)
		return
	}
	if n > 0 {
		slog.Info("stale conntrack entries removed", "count", n)
	}
}

// flowFilter matches an entry against any of the flows.
type flowFilter struct{ stale, draining []flow }

// MatchConntrackFlow is netlink.CustomConntrackFilter.
func (f flowFilter) MatchConntrackFlow(entry *netlink.ConntrackFlow) bool {
	if entry.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	idle := entry.TimeOut < udpTimeout-idleFor // counts down from the last packet
	return matches(f.stale, entry) || idle && matches(f.draining, entry)
}

func matches(flows []flow, entry *netlink.ConntrackFlow) bool {
	asked := endOf(entry.Forward.DstIP, entry.Forward.DstPort)
	answers := endOf(entry.Reverse.SrcIP, entry.Reverse.SrcPort)
	for _, want := range flows {
		if asked.Port() != want.port || want.service.IsValid() && asked.Addr() != want.service {
			continue
		}
		if want.leadsTo(asked, answers) {
			return true
		}
	}
	return false
}

// leadsTo: a client that asked there, by the Service, is answered from where
// this flow leads.
func (f flow) leadsTo(asked, answers netip.AddrPort) bool {
	switch {
	case f.except != nil:
		return answers != asked && !f.except[answers]
	case f.endpoint.IsValid():
		return answers == f.endpoint
	}
	return answers == asked
}

func endOf(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}
