package nftables

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/proxy"
)

// Config is what changes the rules besides the Services.
type Config struct {
	// Family is that of the addresses and of the table; "" means IPv4.
	Family corev1.IPFamily
	// NodeIP is the node's own address; it takes node ports when no ranges say
	// otherwise. Not valid: the node has none in this family, and all its
	// addresses take them.
	NodeIP netip.Addr
	// LocalPods tells pods' packets, which need no masquerade.
	LocalPods proxy.LocalPods
	// ServiceCIDRs are the ranges of all ClusterIPs: what goes to one that no
	// Service has is dropped.
	ServiceCIDRs []netip.Prefix
	// MasqueradeAll masquerades everything that goes to a ClusterIP.
	MasqueradeAll bool
	// MasqueradeBit is the bit of the packet mark that means "masquerade".
	MasqueradeBit uint
	// NodePortAddresses are the ranges whose addresses on this node take node
	// ports; none: the node's own address does.
	NodePortAddresses []netip.Prefix
}

// mark as nft prints it.
func (c Config) mark() string { return fmt.Sprintf("0x%08x", 1<<c.MasqueradeBit) }

// family is what rules of IPv4 and IPv6 write differently.
type family struct {
	ip       string // the table's family, and what stands before saddr and daddr
	number   uint8  // the kernel's for it
	addrType string
	loopback string // never takes node ports in this mode
}

var (
	ipv4 = family{"ip", unix.NFPROTO_IPV4, "ipv4_addr", "127.0.0.0/8"}
	ipv6 = family{"ip6", unix.NFPROTO_IPV6, "ipv6_addr", "::1"}
)

func (c Config) family() family {
	if c.Family == corev1.IPv6Protocol {
		return ipv6
	}
	return ipv4
}

// table is "ip kube-proxy" or "ip6 kube-proxy".
func (f family) table() string { return f.ip + " " + table }

// everyNodePortAddress tells whether all addresses of the node take node ports.
func (c Config) everyNodePortAddress() bool {
	if len(c.NodePortAddresses) == 0 {
		return !c.NodeIP.IsValid()
	}
	return slices.ContainsFunc(c.NodePortAddresses, func(r netip.Prefix) bool { return r.Bits() == 0 })
}
