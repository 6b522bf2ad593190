package world

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// switchName is the bridge in the world's network namespace: what a learner
// sees with `podarium node exec world -- bridge link`.
const switchName = "switch0"

// makeSwitch makes the bridge all nodes are plugged into. The world has an
// address on it, 192.168.56.1: the place of a client outside the cluster. It
// does not forward and knows no route: there is no way out of the lab.
func makeSwitch(cfg Config) error {
	if err := linkUp("lo"); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = switchName
	bridge := &netlink.Bridge{LinkAttrs: attrs}
	if err := netlink.LinkAdd(bridge); err != nil {
		return fmt.Errorf("make switch %s: %w", switchName, err)
	}
	if err := addAddress(switchName, cfg.SwitchIP(), cfg.NodeNetwork.Bits()); err != nil {
		return err
	}
	return linkUp(switchName)
}

// plugIn lays the cable between the switch and a node: a veth pair whose one
// end is a port of the bridge, named after the node, and whose other end is
// made inside the node's network namespace, as eth0.
func plugIn(node string, pid int) error {
	bridge, err := netlink.LinkByName(switchName)
	if err != nil {
		return fmt.Errorf("find %s: %w", switchName, err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = node
	attrs.MasterIndex = bridge.Attrs().Index
	cable := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("plug %s into %s: %w", node, switchName, err)
	}
	return linkUp(node)
}

// setUpNodeNetwork runs inside the node: its address, and a route for the
// Services. ClusterIPs are never on a wire, but a packet from the node itself
// must find some route before OUTPUT's DNAT gives it a real destination; on a
// machine with an uplink that is the default route, which a lab has not.
func setUpNodeNetwork(cfg Config, number int) error {
	if err := linkUp("lo"); err != nil {
		return err
	}
	if err := addAddress("eth0", cfg.NodeIP(number), cfg.NodeNetwork.Bits()); err != nil {
		return err
	}
	if err := linkUp("eth0"); err != nil {
		return err
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(cfg.ServiceClusterIPRange), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route %s to eth0: %w", cfg.ServiceClusterIPRange, err)
	}
	return nil
}

func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func addAddress(name string, addr netip.Addr, bits int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(bits, addr.BitLen())}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("give %s the address %s/%d: %w", name, addr, bits, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	p = p.Masked()
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
