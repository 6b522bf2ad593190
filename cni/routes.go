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

// Route is the way to a peer's pods.
type Route struct {
	Pods   netip.Prefix // 10.244.2.0/24
	Via    netip.Addr   // 192.168.56.12, or 10.244.2.0 through the tunnel
	Device string       // the tunnel; empty: whatever leads to Via
}

// HostGateway are the routes of native routing: each peer's pods through its
// node. No tunnel, so packets keep their addresses and size; but all nodes
// must be on one link, for the network between them knows no pods.
func HostGateway(peers []Peer) []Route {
	var routes []Route
	for _, p := range peers {
		routes = append(routes, Route{Pods: p.Pods.Masked(), Via: p.Node})
	}
	return routes
}

// RoutePlan is the difference between the routes there are and those there
// should be.
type RoutePlan struct {
	Add    []Route
	Remove []Route
}

// planRoutes is pure: what to change to get from have to want.
func planRoutes(have, want []Route) RoutePlan {
	var plan RoutePlan
	exists, wanted := map[Route]bool{}, map[Route]bool{}
	for _, r := range have {
		exists[r] = true
	}
	for _, r := range want {
		if !exists[r] && !wanted[r] {
			plan.Add = append(plan.Add, r)
		}
		wanted[r] = true
	}
	for _, r := range have {
		if !wanted[r] {
			plan.Remove = append(plan.Remove, r)
		}
	}
	return plan
}

// SyncRoutes makes the node's routes to other nodes' pods be exactly want:
// `10.244.2.0/24 via 192.168.56.12 dev eth0 proto 80`. It returns what it
// changed. Routes that carry another protocol number are never touched.
func SyncRoutes(want []Route) (RoutePlan, error) {
	have, err := listRoutes()
	if err != nil {
		return RoutePlan{}, err
	}
	plan := planRoutes(have, want)
	for _, r := range plan.Remove { // first: a new node may take over a range
		if err := r.change(netlink.RouteDel); err != nil {
			return plan, fmt.Errorf("remove route to %s via %s: %w", r.Pods, r.Via, err)
		}
	}
	for _, r := range plan.Add {
		if err := r.change(netlink.RouteReplace); err != nil {
			return plan, fmt.Errorf("add route to %s via %s: %w", r.Pods, r.Via, err)
		}
	}
	return plan, nil
}

func listRoutes() ([]Route, error) {
	filter := &netlink.Route{Protocol: routeProtocol}
	found, err := netlinksafe.RouteListFiltered(netlink.FAMILY_V4, filter, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	tunnel, err := tunnelIndex()
	if err != nil {
		return nil, err
	}
	var routes []Route
	for _, f := range found {
		via, ok := netip.AddrFromSlice(f.Gw)
		if f.Dst == nil || !ok {
			continue
		}
		pods, err := netip.ParsePrefix(f.Dst.String())
		if err != nil {
			return nil, fmt.Errorf("read route %s: %w", f, err)
		}
		r := Route{Pods: pods, Via: via.Unmap()}
		if f.LinkIndex == tunnel {
			r.Device = tunnelName
		}
		routes = append(routes, r)
	}
	return routes, nil
}

// change adds or removes the route. The gateway at the tunnel's other end is on
// no link that the kernel could know of, so it is told: "onlink".
func (r Route) change(do func(*netlink.Route) error) error {
	route := &netlink.Route{Dst: ipNet(r.Pods), Gw: r.Via.AsSlice(), Protocol: routeProtocol}
	if r.Device != "" {
		link, err := netlinksafe.LinkByName(r.Device)
		if err != nil {
			return fmt.Errorf("find %s: %w", r.Device, err)
		}
		route.LinkIndex = link.Attrs().Index
		route.SetFlag(netlink.FLAG_ONLINK)
	}
	return do(route)
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	prefix = prefix.Masked()
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}
