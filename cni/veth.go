package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// cable is what is needed to wire one pod.
type cable struct {
	hostName string // veth1c2f0a9b
	podName  string // eth0
	mtu      int
	addr     netip.Addr
	gateway  netip.Addr
	bits     int
}

// lay makes the veth pair with its pod end already inside the namespace, and
// plugs the other end into the bridge. Hairpin lets a frame leave by the port
// it came in: a pod that talks to its own Service gets its packet back.
func (c cable) lay(bridge *netlink.Bridge, netns ns.NetNS) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.hostName
	attrs.MTU = c.mtu
	attrs.MasterIndex = bridge.Attrs().Index
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         c.podName,
		PeerHardwareAddr: hardwareAddr(c.addr.AsSlice()),
		PeerNamespace:    netlink.NsFd(int(netns.Fd())),
		PeerMTU:          uint32(c.mtu),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("make veth %s for %s: %w", c.hostName, c.podName, err)
	}
	if err := netlink.LinkSetHairpin(veth, true); err != nil {
		return fmt.Errorf("set hairpin on %s: %w", c.hostName, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set %s up: %w", c.hostName, err)
	}
	return netns.Do(func(ns.NetNS) error { return c.configurePod() })
}

// configurePod runs inside: address, up, default route through the bridge.
func (c cable) configurePod() error {
	link, err := netlinksafe.LinkByName(c.podName)
	if err != nil {
		return fmt.Errorf("find %s in the pod: %w", c.podName, err)
	}
	address := &netlink.Addr{IPNet: &net.IPNet{IP: c.addr.AsSlice(), Mask: net.CIDRMask(c.bits, 32)}}
	if err := netlink.AddrAdd(link, address); err != nil {
		return fmt.Errorf("give %s the address %s: %w", c.podName, address.IPNet, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", c.podName, err)
	}
	route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: c.gateway.AsSlice()}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route the pod's default through %s: %w", c.gateway, err)
	}
	return nil
}

// removeVeth takes the cable away; both ends go with either.
func removeVeth(name string) error {
	link, err := netlinksafe.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// check compares the kernel's state with what lay made.
func (c cable) check(bridge *netlink.Bridge, netns ns.NetNS) error {
	link, err := netlinksafe.LinkByName(c.hostName)
	if err != nil {
		return fmt.Errorf("find %s: %w", c.hostName, err)
	}
	if link.Attrs().MasterIndex != bridge.Attrs().Index {
		return fmt.Errorf("%s is not a port of %s", c.hostName, bridge.Name)
	}
	return netns.Do(func(ns.NetNS) error { return c.checkPod() })
}

func (c cable) checkPod() error {
	link, err := netlinksafe.LinkByName(c.podName)
	if err != nil {
		return fmt.Errorf("find %s in the pod: %w", c.podName, err)
	}
	addresses, err := netlinksafe.AddrList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", c.podName, err)
	}
	for _, a := range addresses {
		if a.IP.Equal(c.addr.AsSlice()) {
			return c.checkDefaultRoute(link)
		}
	}
	return fmt.Errorf("%s has lost its address %s", c.podName, c.addr)
}

func (c cable) checkDefaultRoute(link netlink.Link) error {
	routes, err := netlinksafe.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list routes of %s: %w", c.podName, err)
	}
	for _, r := range routes {
		if r.Gw.Equal(c.gateway.AsSlice()) {
			return nil
		}
	}
	return fmt.Errorf("the pod has no route through %s", c.gateway)
}
