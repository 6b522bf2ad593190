package components

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// ProxyModes and PodNetworks are what the components can do; "none" leaves it to
// the learner.
var (
	ProxyModes  = []string{"iptables", "nftables", "ipvs", "userspace", "none"}
	PodNetworks = []string{"host-gw", "vxlan", "none"}
)

// OneOf is an error that names the flag and what it may say.
func OneOf(flag, value string, allowed []string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return fmt.Errorf("%s %q: must be one of %s", flag, value, strings.Join(allowed, ", "))
}

// Range is a range of addresses with the flag that says it.
type Range struct {
	Flag   string
	Prefix netip.Prefix
}

// Disjoint checks that no two ranges overlap: an address must be a pod's, a
// Service's or a node's, never two of them.
func Disjoint(ranges ...Range) error {
	var errs []error
	for i, a := range ranges {
		if !a.Prefix.IsValid() || !a.Prefix.Addr().Is4() {
			errs = append(errs, fmt.Errorf("%s %s: must be an IPv4 range such as 10.244.0.0/16", a.Flag, a.Prefix))
			continue
		}
		for _, b := range ranges[i+1:] {
			if a.Prefix.Overlaps(b.Prefix) {
				errs = append(errs, fmt.Errorf("%s %s overlaps %s %s: choose ranges that share no address", a.Flag, a.Prefix, b.Flag, b.Prefix))
			}
		}
	}
	return errors.Join(errs...)
}
