package proxy

import "slices"

// Snapshot is everything a Backend needs to know, at one moment. Ports are in
// the order of their names, so that equal clusters give equal rules. A port
// that has not changed is the same pointer in the next snapshot, so a Backend
// may keep what it made of it.
type Snapshot struct {
	Ports     []*Port
	Endpoints int // of all Services, ready or not
}

// Changed are the ports which only one of two snapshots has; one that is another
// now is in both lists. It costs a look at each port, and no memory.
func Changed(before, after *Snapshot) (gone, come []*Port) {
	old, now := before.Ports, after.Ports
	for len(old) > 0 || len(now) > 0 {
		switch {
		case len(old) > 0 && len(now) > 0 && old[0] == now[0]:
			old, now = old[1:], now[1:]
		case len(now) == 0 || len(old) > 0 && comparePorts(old[0], now[0]) <= 0:
			gone, old = append(gone, old[0]), old[1:]
		default:
			come, now = append(come, now[0]), now[1:]
		}
	}
	return gone, come
}

// Port is a Service port with the endpoints decided for this node. It is never
// changed after it was made.
type Port struct {
	*ServicePort
	ClusterEndpoints []*Endpoint // for traffic policy Cluster
	LocalEndpoints   []*Endpoint // for traffic policy Local
	HasEndpoints     bool        // anywhere; with none here, "no local endpoints"

	answering []*Endpoint // all that still serve, also those which get nothing new
	all       int         // endpoints, ready or not
	// localReady is what the Service's health check node port tells.
	localReady int
}

// Internal are the endpoints behind the ClusterIP.
func (p *Port) Internal() []*Endpoint {
	if p.InternalLocal {
		return p.LocalEndpoints
	}
	return p.ClusterEndpoints
}

// External are the endpoints behind all other addresses, for clients from
// outside.
func (p *Port) External() []*Endpoint {
	if p.ExternalLocal {
		return p.LocalEndpoints
	}
	return p.ClusterEndpoints
}

// Reachable are the endpoints of both policies, each once, in order.
func (p *Port) Reachable() []*Endpoint {
	if len(p.LocalEndpoints) == 0 {
		return p.ClusterEndpoints
	}
	seen := map[string]bool{}
	var all []*Endpoint
	for _, e := range append(append([]*Endpoint{}, p.ClusterEndpoints...), p.LocalEndpoints...) {
		if !seen[e.String()] {
			seen[e.String()] = true
			all = append(all, e)
		}
	}
	return all
}

// Draining are the endpoints which get nothing new but still answer.
func (p *Port) Draining() []*Endpoint {
	reachable := p.Reachable()
	return filter(p.answering, func(e *Endpoint) bool { return !slices.Contains(reachable, e) })
}

// withoutLocal counts the Service ports whose traffic policy Local leaves them
// no endpoint on this node, while others have some.
func (s *Snapshot) withoutLocal() (internal, external int) {
	for _, p := range s.Ports {
		if !p.HasEndpoints || len(p.LocalEndpoints) > 0 {
			continue
		}
		if p.InternalLocal {
			internal++
		}
		if p.ExternalLocal {
			external++
		}
	}
	return internal, external
}
