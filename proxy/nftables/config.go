package nftables

import (
	"fmt"
	"net/netip"
)

// Config is what changes the rules besides the Services.
type Config struct {
	// NodeIP is the node's own address; it takes node ports when no ranges say
	// otherwise.
	NodeIP netip.Addr
	// LocalPods is where pods' packets come from that need no masquerade. Not
	// valid: unknown.
	LocalPods netip.Prefix
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
