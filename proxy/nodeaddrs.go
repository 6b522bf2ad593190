package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// NodePortAddresses are the node's own addresses in the ranges that
// --nodeport-addresses gives; nil when it gives none. It is an error when no
// address is in them.
func NodePortAddresses(ranges []netip.Prefix) ([]netip.Addr, error) {
	if len(ranges) == 0 {
		return nil, nil
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the node's addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range own {
		prefix, err := netip.ParsePrefix(a.String())
		if err != nil {
			continue // such as one with a zone, which no range contains
		}
		if slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Contains(prefix.Addr()) }) {
			addrs = append(addrs, prefix.Addr())
		}
	}
	if len(addrs) == 0 {
		return nil, errors.New("--nodeport-addresses: no address of this node is in these ranges, so node ports would answer nowhere")
	}
	return addrs, nil
}
