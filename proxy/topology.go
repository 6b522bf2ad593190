package proxy

import "slices"

// reach is which endpoints of a Service port packets on this node may go to.
type reach struct {
	cluster []*Endpoint // with traffic policy Cluster
	local   []*Endpoint // with traffic policy Local
	any     bool        // some endpoint somewhere would do: "no local endpoint" is another thing than "none"
}

// decide applies, in this order: traffic policies, readiness (ready ones, else
// those which terminate but still serve, never others), topology hints.
func decide(port *ServicePort, all []*Endpoint, node, zone string) reach {
	var r reach
	if port.usesClusterEndpoints() {
		keep := hinted(all, node, zone)
		r.cluster = filter(all, func(e *Endpoint) bool { return e.ready && keep(e) })
		if len(r.cluster) == 0 {
			r.cluster = filter(all, (*Endpoint).usableWhenNothingIsReady)
		}
	}
	if port.usesLocalEndpoints() {
		r.local = filter(all, func(e *Endpoint) bool { return e.Local && e.ready })
		if len(r.local) == 0 {
			r.local = filter(all, func(e *Endpoint) bool { return e.Local && e.usableWhenNothingIsReady() })
		}
	}
	r.any = slices.ContainsFunc(all, func(e *Endpoint) bool { return e.ready || e.usableWhenNothingIsReady() })
	return r
}

// hinted returns the test which the hints ask for (KEP-2433, KEP-3015): stay
// on the node, else in the zone. Hints are only followed when all ready
// endpoints carry them and one of them means us; else traffic would get lost
// or pile up while the controller is still writing them.
func hinted(all []*Endpoint, node, zone string) func(*Endpoint) bool {
	switch {
	case complete(all, (*Endpoint).nodeHints, node):
		return func(e *Endpoint) bool { return slices.Contains(e.nodeHints(), node) }
	case zone != "" && complete(all, (*Endpoint).zoneHints, zone):
		return func(e *Endpoint) bool { return slices.Contains(e.zoneHints(), zone) }
	}
	return func(*Endpoint) bool { return true }
}

func complete(all []*Endpoint, hints func(*Endpoint) []string, us string) bool {
	found := false
	for _, e := range all {
		if !e.ready {
			continue
		}
		if len(hints(e)) == 0 {
			return false
		}
		found = found || slices.Contains(hints(e), us)
	}
	return found
}

// filter keeps some; mostly it is all of them, and then the same list.
func filter(all []*Endpoint, keep func(*Endpoint) bool) []*Endpoint {
	if !slices.ContainsFunc(all, func(e *Endpoint) bool { return !keep(e) }) {
		return all
	}
	var kept []*Endpoint
	for _, e := range all {
		if keep(e) {
			kept = append(kept, e)
		}
	}
	return kept
}
