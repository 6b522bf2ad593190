package iptables

import (
	"fmt"
	"net/netip"
)

// Config is what changes the rules besides the Services.
type Config struct {
	// NodeIP is the node's own address.
	NodeIP netip.Addr
	// LocalPods is where pods' packets come from that need no masquerade: the
	// cluster CIDR, or this node's pod CIDR. Not valid: unknown.
	LocalPods netip.Prefix
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
func (c Config) loopbackNodePorts() bool {
	return c.LocalhostNodePorts && len(c.NodePortAddresses) == 0
}

// node is what a node has that rules depend on.
type node struct {
	nodePorts []netip.Addr // its addresses that take node ports, when ranges are configured
	nfacct    bool         // the kernel counts with -m nfacct
}
