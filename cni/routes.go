package cni

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
)

// Peer is another node: its own address, and its share of the pods' addresses.
type Peer struct {
	Node netip.Addr   // 192.168.56.12
	Pods netip.Prefix // 10.244.2.0/24
}

// RoutePlan is the difference between the routes there are and those there
// should be.
type RoutePlan struct {
	Add    []Peer
	Remove []Peer
}

// planRoutes is pure: what to change so that each peer's pods are reached
// through its node ("host gateway": no tunnel, so packets keep their
// addresses, which needs all nodes on one link).
func planRoutes(have, want []Peer) RoutePlan {
	var plan RoutePlan
	exists, wanted := map[Peer]bool{}, map[Peer]bool{}
	for _, p := range have {
		exists[p] = true
	}
	for _, p := range want {
		if !exists[p] && !wanted[p] {
			plan.Add = append(plan.Add, p)
		}
		wanted[p] = true
	}
	for _, p := range have {
		if !wanted[p] {
			plan.Remove = append(plan.Remove, p)
		}
	}
	return plan
}

// SyncRoutes makes the node's routes to other nodes' pods be exactly want:
// `10.244.2.0/24 via 192.168.56.12 dev eth0 proto 80`. It returns what it
// changed. Routes that carry another protocol number are never touched.
func SyncRoutes(want []Peer) (RoutePlan, error) {
	have, err := listRoutes()
	if err != nil {
		return RoutePlan{}, err
	}
	plan := planRoutes(have, want)
	for _, p := range plan.Remove { // first: a new node may take over a range
		if err := netlink.RouteDel(p.route()); err != nil {
			return plan, fmt.Errorf("remove route to %s via %s: %w", p.Pods, p.Node, err)
		}
	}
	for _, p := range plan.Add {
		if err := netlink.RouteReplace(p.route()); err != nil {
			return plan, fmt.Errorf("add route to %s via %s: %w", p.Pods, p.Node, err)
		}
	}
	return plan, nil
}

func listRoutes() ([]Peer, error) {
	filter := &netlink.Route{Protocol: routeProtocol}
	routes, err := netlinksafe.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var peers []Peer
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		pods, err := netip.ParsePrefix(r.Dst.String())
		if err != nil {
			return nil, fmt.Errorf("read route %s: %w", r, err)
		}
		node, ok := netip.AddrFromSlice(r.Gw)
		if !ok {
			continue
		}
		peers = append(peers, Peer{Node: node.Unmap(), Pods: pods})
	}
	return peers, nil
}

func (p Peer) route() *netlink.Route {
	dst := p.Pods.Masked()
	return &netlink.Route{
		Dst:      &net.IPNet{IP: dst.Addr().AsSlice(), Mask: net.CIDRMask(dst.Bits(), 32)},
		Gw:       p.Node.AsSlice(),
		Protocol: routeProtocol,
	}
}
