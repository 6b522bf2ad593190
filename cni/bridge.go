package cni

import (
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ensureBridge makes cni0 once: up, with the gateway's address, e.g.
// 10.244.1.1/24, which also makes the route to the node's own pods. Parallel
// ADDs may race for it; the loser uses the winner's.
func ensureBridge(cfg *Config) (*netlink.Bridge, error) {
	bridge, err := findBridge(cfg.Bridge)
	if err == nil {
		return bridge, addGateway(bridge, cfg)
	}
	if !errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = cfg.Bridge
	attrs.MTU = cfg.MTU
	// A fixed MAC: the kernel would otherwise take over the lowest of the
	// ports', and pods would lose their gateway when a pod comes or goes.
	attrs.HardwareAddr = hardwareAddr(cfg.gateway().AsSlice())
	err = netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("make bridge %s: %w", cfg.Bridge, err)
	}
	if bridge, err = findBridge(cfg.Bridge); err != nil {
		return nil, err
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return nil, fmt.Errorf("set bridge %s up: %w", cfg.Bridge, err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return nil, fmt.Errorf("let the node forward: %w", err)
	}
	return bridge, addGateway(bridge, cfg)
}

func findBridge(name string) (*netlink.Bridge, error) {
	link, err := netlinksafe.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find bridge %s: %w", name, err)
	}
	bridge, ok := link.(*netlink.Bridge)
	if !ok {
		return nil, fmt.Errorf("%s exists and is a %s, not a bridge: name another one in the network configuration", name, link.Type())
	}
	return bridge, nil
}

func addGateway(bridge *netlink.Bridge, cfg *Config) error {
	mask := net.CIDRMask(cfg.Subnet.Bits(), 32)
	address := &netlink.Addr{IPNet: &net.IPNet{IP: cfg.gateway().AsSlice(), Mask: mask}}
	if err := netlink.AddrAdd(bridge, address); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("give %s the address %s: %w", cfg.Bridge, address.IPNet, err)
	}
	return nil
}
