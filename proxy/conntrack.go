package proxy

import (
	"log/slog"
	"net/netip"

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
	endpoint netip.Addr // where DNAT sent it; not valid: nowhere, it was never translated
}

// staleFlows compares two snapshots: endpoints which UDP Services have lost,
// and Services which had none and have some now (a client that asked too early
// has an entry without translation).
func staleFlows(before, after *Snapshot) []flow {
	now := map[PortName]map[netip.Addr]bool{}
	for i := range after.Ports {
		now[after.Ports[i].Name] = addressesOf(&after.Ports[i])
	}
	var flows []flow
	had := map[PortName]bool{}
	if before != nil {
		for i := range before.Ports {
			old := &before.Ports[i]
			if old.Name.Protocol != corev1.ProtocolUDP {
				continue
			}
			for addr := range addressesOf(old) {
				had[old.Name] = true
				if !now[old.Name][addr] {
					flows = append(flows, flowsOf(old, addr)...)
				}
			}
		}
	}
	for i := range after.Ports {
		p := &after.Ports[i]
		if p.Name.Protocol == corev1.ProtocolUDP && !had[p.Name] && len(now[p.Name]) > 0 {
			flows = append(flows, flowsOf(p, netip.Addr{})...)
		}
	}
	return flows
}

func addressesOf(p *Port) map[netip.Addr]bool {
	set := map[netip.Addr]bool{}
	for _, e := range p.Reachable() {
		set[e.Address.Addr()] = true
	}
	return set
}

// flowsOf are the ways to an endpoint: each address of the Service, and the
// node port on any address.
func flowsOf(p *Port, endpoint netip.Addr) []flow {
	list := []flow{{p.ClusterIP, p.Port, endpoint}}
	for _, ip := range p.ExternalIPs {
		list = append(list, flow{ip, p.Port, endpoint})
	}
	for _, ip := range p.LoadBalancerIPs {
		list = append(list, flow{ip, p.Port, endpoint})
	}
	if p.NodePort != 0 {
		list = append(list, flow{netip.Addr{}, p.NodePort, endpoint})
	}
	return list
}

// forgetFlows deletes them from the kernel's table.
func forgetFlows(flows []flow) {
	if len(flows) == 0 {
		return
	}
	n, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, netlink.FAMILY_V4, flowFilter(flows))
	if err != nil {
		slog.Error("stale conntrack entries not removed", "err", err)
		return
	}
	if n > 0 {
		slog.Info("stale conntrack entries removed", "count", n)
	}
}

// flowFilter matches an entry against any of the flows.
type flowFilter []flow

// MatchConntrackFlow is netlink.CustomConntrackFilter.
func (f flowFilter) MatchConntrackFlow(entry *netlink.ConntrackFlow) bool {
	if entry.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	original, _ := netip.AddrFromSlice(entry.Forward.DstIP)
	answering, _ := netip.AddrFromSlice(entry.Reverse.SrcIP)
	original, answering = original.Unmap(), answering.Unmap()
	for _, want := range f {
		if entry.Forward.DstPort != want.port || want.service.IsValid() && original != want.service {
			continue
		}
		if want.endpoint.IsValid() && answering == want.endpoint || !want.endpoint.IsValid() && answering == original {
			return true
		}
	}
	return false
}
