package userspace

import (
	"net/netip"

	"github.com/podarium/podarium/proxy"
)

// Config is what changes the rules besides the Services.
type Config struct {
	// NodeIP is the node's own address; the node's own packets to a Service are
	// led to it.
	NodeIP netip.Addr
	// LocalPods tells pods' packets: with externalTrafficPolicy Local they may go
	// to all endpoints.
	LocalPods proxy.LocalPods
	// NodePortAddresses are the ranges whose addresses on this node take node
	// ports; none: all addresses do.
	NodePortAddresses []netip.Prefix
}
