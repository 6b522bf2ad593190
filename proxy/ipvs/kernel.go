package ipvs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// kernel is what the rim of this package talks to: IPVS by netlink, in the
// network namespace in which it was opened.
type kernel struct {
	ipvs *ipvs.Handle
}

func openKernel() (*kernel, error) {
	handle, err := ipvs.New("")
	if err != nil {
		return nil, fmt.Errorf("open IPVS: %w", err)
	}
	return &kernel{handle}, nil
}

var protocolNumbers = map[string]uint16{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// servers reads all virtual servers of an IP family but those of the excluded
// ranges and of firewall marks, which are not ours.
func (k *kernel) servers(f family, excluded []netip.Prefix) (servers, error) {
	list, err := k.ipvs.GetServices()
	if err != nil {
		return nil, fmt.Errorf("list virtual servers: %w", err)
	}
	have := servers{}
	for _, service := range list {
		at, ok := portalOf(service, f)
		if !ok || slices.ContainsFunc(excluded, func(r netip.Prefix) bool { return r.Contains(at.address.Addr()) }) {
			continue
		}
		destinations, err := k.destinations(at)
		if err != nil {
			return nil, err
		}
		s := &server{scheduler: service.SchedName, flags: service.Flags &^ flagHashed, timeout: service.Timeout, real: map[netip.AddrPort]int{}}
		for _, d := range destinations {
			s.real[addrPort(d.Address, d.Port)] = d.Weight
		}
		have[at] = s
	}
	return have, nil
}

func portalOf(service *ipvs.Service, f family) (portal, bool) {
	for name, number := range protocolNumbers {
		if number == service.Protocol && service.FWMark == 0 && service.AddressFamily == f.number {
			return portal{name, addrPort(service.Address, service.Port)}, true
		}
	}
	return portal{}, false
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func (k *kernel) destinations(at portal) ([]*ipvs.Destination, error) {
	list, err := k.ipvs.GetDestinations(service(at, &server{}))
	if err != nil {
		return nil, fmt.Errorf("list real servers of %s: %w", at.element(), err)
	}
	return list, nil
}

// service is a virtual server in netlink's form. With persistence the kernel
// keeps clients apart by the bits of the mask: all of them.
func service(at portal, s *server) *ipvs.Service {
	mask := uint32(0xffffffff)
	if at.address.Addr().Is6() {
		mask = 128 // there it is how many
	}
	return &ipvs.Service{
		Address: at.address.Addr().AsSlice(), Protocol: protocolNumbers[at.protocol], Port: at.address.Port(), AddressFamily: familyOf(at.address.Addr()).number,
		SchedName: s.scheduler, Flags: s.flags, Timeout: s.timeout, Netmask: mask,
	}
}

func destination(real netip.AddrPort, weight int) *ipvs.Destination {
	return &ipvs.Destination{
		Address: real.Addr().AsSlice(), Port: real.Port(), Weight: weight,
		AddressFamily: familyOf(real.Addr()).number, ConnectionFlags: ipvs.ConnectionFlagMasq,
	}
}

// do takes the steps, up to the first that fails.
func (k *kernel) do(steps []step) error {
	for _, s := range steps {
		if err := k.take(s); err != nil {
			return fmt.Errorf("ipvs %s: %w", s, err)
		}
	}
	return nil
}

func (k *kernel) take(s step) error {
	switch s.verb {
	case addServer:
		return k.ipvs.NewService(service(s.at, s.server))
	case editServer:
		return k.ipvs.UpdateService(service(s.at, s.server))
	case deleteServer:
		return k.ipvs.DelService(service(s.at, &server{}))
	case addReal:
		return k.ipvs.NewDestination(service(s.at, &server{}), destination(s.real, s.weight))
	case editReal:
		return k.ipvs.UpdateDestination(service(s.at, &server{}), destination(s.real, s.weight))
	default:
		return k.ipvs.DelDestination(service(s.at, &server{}), destination(s.real, 0))
	}
}

// drained deletes the real servers of weight 0 that have no connection left.
// It returns them.
func (k *kernel) drained(at portal) ([]netip.AddrPort, error) {
	list, err := k.destinations(at)
	if err != nil {
		return nil, err
	}
	var gone []netip.AddrPort
	for _, d := range list {
		if d.Weight != draining || d.ActiveConnections+d.InactiveConnections > 0 {
			continue
		}
		real := addrPort(d.Address, d.Port)
		if err := k.do([]step{{verb: deleteReal, at: at, real: real}}); err != nil {
			return gone, err
		}
		gone = append(gone, real)
	}
	return gone, nil
}

// ensureDevice makes kube-ipvs0. It stays down: nothing is ever sent there.
func ensureDevice() error {
	err := netlink.LinkAdd(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: device}})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make interface %s (it needs the kernel module dummy): %w", device, err)
	}
	return nil
}

// addresses are kube-ipvs0's and, apart, those of all other interfaces that are
// not for the node, or a link, alone.
func addresses(f family) (bound map[netip.Addr]bool, own []netip.Addr, err error) {
	list, err := netlinksafe.AddrList(nil, int(f.number))
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	index := -1
	if link, err := netlinksafe.LinkByName(device); err == nil {
		index = link.Attrs().Index
	}
	bound = map[netip.Addr]bool{}
	for _, a := range list {
		addr, ok := netip.AddrFromSlice(a.IP)
		addr = addr.Unmap()
		switch {
		case !ok || addr.IsLoopback() || addr.IsLinkLocalUnicast():
		case a.LinkIndex == index:
			bound[addr] = true
		case !slices.Contains(own, addr):
			own = append(own, addr)
		}
	}
	slices.SortFunc(own, netip.Addr.Compare)
	return bound, own, nil
}

// bind gives addresses to kube-ipvs0, unbind takes them away.
func bind(have, want map[netip.Addr]bool) error {
	return eachMissing(want, have, "add to", netlink.AddrAdd, unix.EEXIST)
}

func unbind(have, want map[netip.Addr]bool) error {
	return eachMissing(have, want, "remove from", netlink.AddrDel, unix.EADDRNOTAVAIL)
}

// eachMissing changes the interface for every address of list that others has
// not. An error that says it was so already is none.
func eachMissing(list, others map[netip.Addr]bool, verb string, change func(netlink.Link, *netlink.Addr) error, already error) error {
	link, err := netlinksafe.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", device, err)
	}
	for _, addr := range slices.SortedFunc(maps.Keys(list), netip.Addr.Compare) {
		if others[addr] {
			continue
		}
		one := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}
		if addr.Is6() {
			one.Flags = unix.IFA_F_NODAD // nobody else is on this interface
		}
		if err := change(link, one); err != nil && !errors.Is(err, already) {
			return fmt.Errorf("%s %s %s: %w", verb, device, addr, err)
		}
	}
	return nil
}

// saveSets is `ipset save`.
func saveSets(ctx context.Context) (string, error) { return ipset(ctx, "", "save") }

// restoreSets runs commands, such as "add KUBE-CLUSTER-IP 10.96.0.1,tcp:443",
// one a line. What is there already, or gone already, is no error.
func restoreSets(ctx context.Context, commands string) error {
	if commands == "" {
		return nil
	}
	_, err := ipset(ctx, commands, "-exist", "restore")
	return err
}

func ipset(ctx context.Context, input string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "ipset", args...)
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("ipset %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}
