package cni

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// VXLAN (RFC 7348) puts a pod's packet as it is into a UDP packet from node to
// node, so the network between needs to know nodes only:
//
//	outer 192.168.56.11 → 192.168.56.12, UDP 4789, VNI 1
//	inner 10.244.1.5    → 10.244.2.7
//
// The price is 50 bytes a packet: an Ethernet header, VXLAN's, UDP's and IP's.
const (
	vxlanID       = 1
	vxlanPort     = 4789
	vxlanOverhead = 50
)

// Nothing is learnt from packets: three entries for each peer say all there is
// to know. Its range is routed to its tunnel's address, 10.244.2.0; that
// address has this MAC (neighbour table); frames to this MAC go to that node
// (forwarding database).

// SyncOverlay makes the tunnel of this node and its entries for the peers, and
// returns the routes through it.
func SyncOverlay(self Peer, peers []Peer) ([]Route, error) {
	tunnel, err := ensureTunnel(self)
	if err != nil {
		return nil, err
	}
	if err := syncEntries(tunnel, wantedFDB(tunnel, peers), unix.AF_BRIDGE); err != nil {
		return nil, fmt.Errorf("forwarding database of %s: %w", tunnelName, err)
	}
	if err := syncEntries(tunnel, wantedNeighbours(tunnel, peers), netlink.FAMILY_V4); err != nil {
		return nil, fmt.Errorf("neighbours on %s: %w", tunnelName, err)
	}
	var routes []Route
	for _, p := range peers {
		pods := p.Pods.Masked()
		routes = append(routes, Route{Pods: pods, Via: pods.Addr(), Device: tunnelName})
	}
	return routes, nil
}

// RemoveOverlay takes the tunnel away, and with it its entries.
func RemoveOverlay() error { return removeVeth(tunnelName) }

// OverlayMTU is what fits through the tunnel of a node whose own link takes mtu
// bytes: 1450 of 1500.
func OverlayMTU(self Peer) (int, error) {
	link, err := linkWith(self.Node)
	if err != nil {
		return 0, err
	}
	return link.Attrs().MTU - vxlanOverhead, nil
}

// ensureTunnel makes vxlan0 on the link that has the node's address. Its own
// address is the first of the node's range, 10.244.1.0: what the node itself
// sends to a pod elsewhere carries it, and the answer finds its way.
func ensureTunnel(self Peer) (netlink.Link, error) {
	under, err := linkWith(self.Node)
	if err != nil {
		return nil, err
	}
	address := self.Pods.Masked().Addr()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = tunnelName
	attrs.MTU = under.Attrs().MTU - vxlanOverhead
	attrs.HardwareAddr = hardwareAddr(address.AsSlice())
	err = netlink.LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: vxlanID, Port: vxlanPort,
		VtepDevIndex: under.Attrs().Index, SrcAddr: self.Node.AsSlice(), Learning: false,
	})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make tunnel %s: %w", tunnelName, err)
	}
	tunnel, err := netlinksafe.LinkByName(tunnelName)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", tunnelName, err)
	}
	own := &netlink.Addr{IPNet: &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(32, 32)}}
	if err := netlink.AddrAdd(tunnel, own); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("give %s the address %s: %w", tunnelName, address, err)
	}
	if err := netlink.LinkSetUp(tunnel); err != nil {
		return nil, fmt.Errorf("set %s up: %w", tunnelName, err)
	}
	return tunnel, nil
}

// linkWith finds the interface with an address: eth0 for 192.168.56.11.
func linkWith(addr netip.Addr) (netlink.Link, error) {
	links, err := netlinksafe.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, link := range links {
		addresses, err := netlinksafe.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", link.Attrs().Name, err)
		}
		for _, a := range addresses {
			if a.IP.Equal(addr.AsSlice()) {
				return link, nil
			}
		}
	}
	return nil, fmt.Errorf("no interface of this node has the address %s", addr)
}

// tunnelIndex is the tunnel's interface index, -1 without one.
func tunnelIndex() (int, error) {
	link, err := netlinksafe.LinkByName(tunnelName)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return -1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", tunnelName, err)
	}
	return link.Attrs().Index, nil
}

// wantedFDB: frames to a peer's tunnel go to its node.
func wantedFDB(tunnel netlink.Link, peers []Peer) []netlink.Neigh {
	var list []netlink.Neigh
	for _, p := range peers {
		list = append(list, netlink.Neigh{
			LinkIndex: tunnel.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
			IP: p.Node.AsSlice(), HardwareAddr: hardwareAddr(p.Pods.Masked().Addr().AsSlice()),
		})
	}
	return list
}

// wantedNeighbours: a peer's tunnel address has that MAC.
func wantedNeighbours(tunnel netlink.Link, peers []Peer) []netlink.Neigh {
	var list []netlink.Neigh
	for _, p := range peers {
		address := p.Pods.Masked().Addr().AsSlice()
		list = append(list, netlink.Neigh{
			LinkIndex: tunnel.Attrs().Index, Family: netlink.FAMILY_V4, State: netlink.NUD_PERMANENT,
			IP: address, HardwareAddr: hardwareAddr(address),
		})
	}
	return list
}

// syncEntries makes the permanent entries of one table be those wanted.
func syncEntries(tunnel netlink.Link, want []netlink.Neigh, family int) error {
	have, err := listEntries(tunnel.Attrs().Index, family)
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	same := func(a, b netlink.Neigh) bool {
		return a.IP.Equal(b.IP) && bytes.Equal(a.HardwareAddr, b.HardwareAddr)
	}
	for i := range have {
		if have[i].State&netlink.NUD_PERMANENT == 0 || contains(want, have[i], same) {
			continue
		}
		if err := netlink.NeighDel(&have[i]); err != nil {
			return fmt.Errorf("remove %s: %w", have[i].IP, err)
		}
	}
	for i := range want {
		if contains(have, want[i], same) {
			continue
		}
		if err := netlink.NeighSet(&want[i]); err != nil {
			return fmt.Errorf("add %s: %w", want[i].IP, err)
		}
	}
	return nil
}

// listEntries asks again when the table changed while it was read.
func listEntries(index, family int) ([]netlink.Neigh, error) {
	for {
		list, err := netlink.NeighList(index, family)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
}

func contains(list []netlink.Neigh, entry netlink.Neigh, same func(a, b netlink.Neigh) bool) bool {
	for _, other := range list {
		if same(other, entry) {
			return true
		}
	}
	return false
}
