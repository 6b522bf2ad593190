package cni

import (
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ns"
)

// Verbs are what a runtime may ask for with CNI_COMMAND.
var Verbs = skel.CNIFuncs{Add: Add, Del: Del, Check: Check, GC: GC, Status: Status}

// Add wires one container (spec §4, ADD). What is half done when a step fails
// is taken back, for libcni does not.
func Add(args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	who := owner{args.ContainerID, args.IfName}
	result, err := add(cfg, who, args.Netns)
	if err != nil {
		return errors.Join(err, undo(cfg, who))
	}
	return types.PrintResult(result, cfg.CNIVersion)
}

func add(cfg *Config, who owner, netnsPath string) (*types100.Result, error) {
	netns, err := ns.GetNS(netnsPath)
	if err != nil {
		return nil, fmt.Errorf("open network namespace of %s: %w", who.ContainerID, err)
	}
	defer netns.Close()
	result, err := cfg.previous()
	if err != nil {
		return nil, err
	}
	bridge, err := ensureBridge(cfg)
	if err != nil {
		return nil, err
	}
	addr, err := newIPAM(cfg).allocate(who)
	if err != nil {
		return nil, err
	}
	c := cfg.cableFor(who)
	c.addr = addr
	if err := c.lay(bridge, netns); err != nil {
		return nil, err
	}
	return describe(cfg, c, netnsPath, result), nil
}

// cableFor is everything about an attachment that follows from its names.
func (c *Config) cableFor(who owner) cable {
	return cable{
		hostName: vethName(who.ContainerID, who.IfName),
		podName:  who.IfName,
		mtu:      c.MTU,
		gateway:  c.gateway(),
		bits:     c.Subnet.Bits(),
	}
}

// describe adds what was made to the result of the plugins before us.
func describe(cfg *Config, c cable, netnsPath string, result *types100.Result) *types100.Result {
	if result == nil {
		result = &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	}
	pod := len(result.Interfaces) + 2
	result.Interfaces = append(result.Interfaces,
		&types100.Interface{Name: cfg.Bridge},
		&types100.Interface{Name: c.hostName},
		&types100.Interface{Name: c.podName, Sandbox: netnsPath, Mac: hardwareAddr(c.addr.AsSlice()).String()},
	)
	result.IPs = append(result.IPs, &types100.IPConfig{
		Interface: &pod,
		Address:   net.IPNet{IP: c.addr.AsSlice(), Mask: net.CIDRMask(c.bits, 32)},
		Gateway:   c.gateway.AsSlice(),
	})
	result.Routes = append(result.Routes, &types.Route{Dst: net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, GW: c.gateway.AsSlice()})
	return result
}

// Del unwires (spec §4, DEL). Everything may be gone already: the namespace,
// the cable, the address; that is success.
func Del(args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	return undo(cfg, owner{args.ContainerID, args.IfName})
}

func undo(cfg *Config, who owner) error {
	return errors.Join(
		removeVeth(vethName(who.ContainerID, who.IfName)),
		newIPAM(cfg).release(func(other owner) bool { return other != who }),
	)
}

// Check tells whether an attachment is still as ADD made it (spec §4, CHECK).
func Check(args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	if cfg.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "CHECK needs the prevResult of ADD", "")
	}
	if err := check(cfg, owner{args.ContainerID, args.IfName}, args.Netns); err != nil {
		return types.NewError(errNotAsConfigured, fmt.Sprintf("attachment of %s has changed", args.ContainerID), err.Error())
	}
	return nil
}

func check(cfg *Config, who owner, netnsPath string) error {
	netns, err := ns.GetNS(netnsPath)
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer netns.Close()
	addr, ok, err := newIPAM(cfg).addressOf(who)
	if err != nil {
		return err
	}
	if !ok {
		return errors.New("no address is reserved for it")
	}
	result, err := cfg.previous()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(result.IPs, func(ip *types100.IPConfig) bool { return ip.Address.IP.Equal(addr.AsSlice()) }) {
		return fmt.Errorf("%s is reserved for it, which prevResult does not have", addr)
	}
	bridge, err := findBridge(cfg.Bridge)
	if err != nil {
		return err
	}
	c := cfg.cableFor(who)
	c.addr = addr
	return c.check(bridge, netns)
}

// GC frees what belongs to no valid attachment (spec §4, GC).
func GC(args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	valid := map[owner]bool{}
	for _, a := range cfg.ValidAttachments {
		valid[owner{a.ContainerID, a.IfName}] = true
	}
	addresses := newIPAM(cfg)
	taken, err := addresses.taken()
	if err != nil {
		return err
	}
	for _, who := range taken {
		if !valid[who] {
			err = errors.Join(err, removeVeth(vethName(who.ContainerID, who.IfName)))
		}
	}
	return errors.Join(err, addresses.release(func(who owner) bool { return valid[who] }))
}

// Status tells whether an ADD could work now (spec §4, STATUS): the
// configuration is right and an address is free.
func Status(args *skel.CmdArgs) error {
	cfg, err := parseConfig(args.StdinData)
	if err != nil {
		return err
	}
	addresses := newIPAM(cfg)
	taken, err := addresses.taken()
	if err != nil {
		return err
	}
	if room := 1<<(32-cfg.Subnet.Bits()) - 3; len(taken) >= room {
		return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf("no free address in %s", cfg.Subnet), "")
	}
	return nil
}
