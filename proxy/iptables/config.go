package iptables

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// Config is what changes the rules besides the Services.
type Config struct {
	// Family is that of the addresses and of the tables; "" means IPv4.
	Family corev1.IPFamily
	// NodeIP is the node's own address. Not valid: it has none in this family.
	NodeIP netip.Addr
	// LocalPods tells pods' packets, which need no masquerade.
	LocalPods proxy.LocalPods
	// MasqueradeAll masquerades everything that goes to a ClusterIP.
	MasqueradeAll bool
	// MasqueradeBit is the bit of the packet mark that means "masquerade".
	MasqueradeBit uint
	// LocalhostNodePorts lets node ports answer on 127.0.0.1 too.
	LocalhostNodePorts bool
	// NodePortAddresses are the ranges whose addresses on this node take node
	// ports; none: all addresses do.
	NodePortAddresses []netip.Prefix
}

// largeCluster is the number of endpoints above which rules of endpoints carry
// no comments, to be half as long.
const largeCluster = 1000

func (c Config) mark() string { return fmt.Sprintf("%#x/%#x", 1<<c.MasqueradeBit, 1<<c.MasqueradeBit) }

// loopbackNodePorts tells whether node ports are to answer on 127.0.0.1, which
// needs the sysctl route_localnet and, against what that opens, KUBE-FIREWALL.
// For ::1 there is no such sysctl.
func (c Config) loopbackNodePorts() bool {
	return c.LocalhostNodePorts && c.everyNodePortAddress() && c.Family != corev1.IPv6Protocol
}

// everyNodePortAddress tells whether all addresses of the node take node ports.
func (c Config) everyNodePortAddress() bool {
	return len(c.NodePortAddresses) == 0 || slices.ContainsFunc(c.NodePortAddresses, func(r netip.Prefix) bool { return r.Bits() == 0 })
}

// family is what rules of IPv4 and IPv6 write differently.
type family struct {
	tool     iptables.Tool
	single   string // prefix length of one address
	loopback string
	reject   string
	affinity string // which bits of a client's address count: all
}

var (
	ipv4 = family{iptables.IPv4, "/32", "127.0.0.0/8", "icmp-port-unreachable", "255.255.255.255"}
	ipv6 = family{iptables.IPv6, "/128", "::1/128", "icmp6-port-unreachable", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
)

func (c Config) family() family {
	if c.Family == corev1.IPv6Protocol {
		return ipv6
	}
	return ipv4
}

// node is what a node has that rules depend on.
type node struct {
	nodePorts []netip.Addr // its addresses that take node ports, when ranges are configured
	nfacct    bool         // the kernel counts with -m nfacct
}
