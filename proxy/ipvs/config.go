package ipvs

import (
	"fmt"
	"net/netip"
	"time"
)

// Config is what changes the plan besides the Services.
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
	// NodePortAddresses are the ranges whose addresses on this node take node
	// ports; none: all addresses do.
	NodePortAddresses []netip.Prefix
	// Scheduler chooses a real server: rr, lc, sh, …, the suffix of the kernel
	// module ip_vs_rr.
	Scheduler string
	// ExcludeCIDRs are ranges of virtual servers that are somebody else's.
	ExcludeCIDRs []netip.Prefix
	// StrictARP lets no interface but its own answer ARP for an address, so
	// that kube-ipvs0's are not announced on the node's network.
	StrictARP bool
	// Timeouts of the kernel's connections; 0: as they are.
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration
}

// bit is the mark as a number, mark the way rules match it: 0x4000/0x4000.
func (c Config) bit() string  { return fmt.Sprintf("%#x", 1<<c.MasqueradeBit) }
func (c Config) mark() string { return c.bit() + "/" + c.bit() }
