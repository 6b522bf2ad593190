package proxy

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Endpoint is one address a packet may be sent to. It is never changed after
// it was made.
type Endpoint struct {
	Address netip.AddrPort
	Local   bool // on this node

	ready       bool
	serving     bool
	terminating bool
	hints       *hints // nil: none
}

// hints are the zones and nodes which an endpoint is meant for.
type hints struct{ zones, nodes []string }

func (e *Endpoint) zoneHints() []string {
	if e.hints == nil {
		return nil
	}
	return e.hints.zones
}

func (e *Endpoint) nodeHints() []string {
	if e.hints == nil {
		return nil
	}
	return e.hints.nodes
}

// String is "10.244.1.3:9876", as rules and their hashes have it.
func (e *Endpoint) String() string { return e.Address.String() }

// usableWhenNothingIsReady: a pod that is being deleted but still answers may
// finish what it has, when there is nobody else (KEP-1669).
func (e *Endpoint) usableWhenNothingIsReady() bool { return e.serving && e.terminating }

// portEndpoints are a slice's endpoints for one of its ports.
type portEndpoints struct {
	port      string
	protocol  corev1.Protocol
	endpoints []Endpoint
}

// sliceEndpoints reads an EndpointSlice, as seen from node.
func sliceEndpoints(slice *discoveryv1.EndpointSlice, node string) []portEndpoints {
	var list []portEndpoints
	for _, port := range slice.Ports {
		if port.Port == nil || *port.Port == 0 {
			continue // a slice may say "all ports"; no Service can mean that
		}
		p := portEndpoints{protocol: corev1.ProtocolTCP, endpoints: make([]Endpoint, 0, len(slice.Endpoints))}
		if port.Name != nil {
			p.port = *port.Name
		}
		if port.Protocol != nil {
			p.protocol = constant(*port.Protocol)
		}
		for i := range slice.Endpoints {
			if e, ok := readEndpoint(&slice.Endpoints[i], uint16(*port.Port), node); ok {
				p.endpoints = append(p.endpoints, e)
			}
		}
		list = append(list, p)
	}
	return list
}

// readEndpoint: absent conditions mean ready, serving as ready is, and not
// terminating, as the API documents them.
func readEndpoint(endpoint *discoveryv1.Endpoint, port uint16, node string) (Endpoint, bool) {
	if len(endpoint.Addresses) == 0 {
		return Endpoint{}, false
	}
	addr, err := netip.ParseAddr(endpoint.Addresses[0]) // all others mean the same endpoint
	if err != nil {
		return Endpoint{}, false
	}
	c := endpoint.Conditions
	e := Endpoint{
		Address:     netip.AddrPortFrom(addr, port),
		Local:       endpoint.NodeName != nil && *endpoint.NodeName == node,
		ready:       c.Ready == nil || *c.Ready,
		terminating: c.Terminating != nil && *c.Terminating,
	}
	e.serving = e.ready
	if c.Serving != nil {
		e.serving = *c.Serving
	}
	if h := endpoint.Hints; h != nil && len(h.ForZones)+len(h.ForNodes) > 0 {
		e.hints = &hints{}
		for _, hint := range h.ForZones {
			e.hints.zones = append(e.hints.zones, hint.Name)
		}
		for _, hint := range h.ForNodes {
			e.hints.nodes = append(e.hints.nodes, hint.Name)
		}
	}
	return e, true
}

// constant is the same protocol, not as a copy that each object brings along.
func constant(protocol corev1.Protocol) corev1.Protocol {
	for _, known := range []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP} {
		if protocol == known {
			return known
		}
	}
	return protocol
}
