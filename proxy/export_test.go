package proxy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// StaleFlows is staleFlows as text, for tests which need proxytest.
func StaleFlows(before, after *Snapshot) []string {
	var list []string
	for _, f := range staleFlows(before, after) {
		endpoint := "nowhere"
		if f.endpoint.IsValid() {
			endpoint = f.endpoint.String()
		}
		if f.except != nil {
			endpoint = fmt.Sprintf("anywhere but %v", slices.SortedFunc(maps.Keys(f.except), netip.AddrPort.Compare))
		}
		list = append(list, fmt.Sprintf("%s:%d → %s", f.service, f.port, endpoint))
	}
	return list
}
