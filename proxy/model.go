package proxy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// Model is what the API has told of Services and EndpointSlices, in the form
// packets of one IP family care for. It belongs to one goroutine.
type Model struct {
	node   string
	family corev1.IPFamily
	zone   string

	services map[ServiceName][]*ServicePort
	slices   map[ServiceName][]*endpointSlice // in the order of their names

	last    *Snapshot
	changed map[ServiceName]bool // since the last snapshot
	all     bool                 // everything is to be decided anew
}

// NewModel is a Model as seen from one node. Services and endpoints of the
// other IP family do not exist in it.
func NewModel(node string, family corev1.IPFamily) *Model {
	return &Model{
		node:     node,
		family:   family,
		services: map[ServiceName][]*ServicePort{},
		slices:   map[ServiceName][]*endpointSlice{},
		last:     &Snapshot{},
		changed:  map[ServiceName]bool{},
	}
}

// SetZone tells in which zone the node is: topology.kubernetes.io/zone.
func (m *Model) SetZone(zone string) (changed bool) {
	changed = m.zone != zone
	m.zone = zone
	m.all = m.all || changed
	return changed
}

// SetService adds or replaces a Service.
func (m *Model) SetService(svc *corev1.Service) { m.setService(readService(svc)) }

func (m *Model) setService(svc *service) {
	if ports := svc.ports(m.family); len(ports) > 0 {
		m.changed[svc.id()] = true
		m.services[svc.id()] = ports
	} else {
		m.DeleteService(svc.id())
	}
}

// DeleteService forgets a Service.
func (m *Model) DeleteService(name ServiceName) {
	if _, known := m.services[name]; known {
		m.changed[name] = true
		delete(m.services, name)
	}
}

// SetSlice adds or replaces an EndpointSlice.
func (m *Model) SetSlice(slice *discoveryv1.EndpointSlice) { m.setSlice(readSlice(slice, m.node)) }

func (m *Model) setSlice(slice *endpointSlice) {
	if slice.service == "" || string(slice.family) != string(m.family) {
		return
	}
	if slice.hidden {
		m.deleteSlice(slice)
		return
	}
	m.changed[slice.owner()] = true
	of := m.slices[slice.owner()]
	i, known := findSlice(of, slice.name)
	if known {
		of[i] = slice
	} else {
		of = slices.Insert(of, i, slice)
	}
	m.slices[slice.owner()] = of
}

// DeleteSlice forgets an EndpointSlice.
func (m *Model) DeleteSlice(slice *discoveryv1.EndpointSlice) {
	m.deleteSlice(readSlice(slice, m.node))
}

func (m *Model) deleteSlice(slice *endpointSlice) {
	of := m.slices[slice.owner()]
	i, known := findSlice(of, slice.name)
	if !known {
		return
	}
	m.changed[slice.owner()] = true
	if len(of) == 1 {
		delete(m.slices, slice.owner())
	} else {
		m.slices[slice.owner()] = slices.Delete(of, i, i+1)
	}
}

// findSlice tells where a slice is among those of a Service, or would be.
func findSlice(of []*endpointSlice, name string) (int, bool) {
	return slices.BinarySearchFunc(of, name, func(s *endpointSlice, name string) int { return strings.Compare(s.name, name) })
}

// endpoints are all of one port, each once, in the order of their text.
func (m *Model) endpoints(port PortName) []*Endpoint {
	found := map[netip.AddrPort]*Endpoint{}
	for _, slice := range m.slices[port.ServiceName] {
		for _, p := range slice.ports {
			if p.port != port.Port || p.protocol != port.Protocol {
				continue
			}
			for _, e := range p.endpoints {
				// While the controller moves an endpoint it is in two slices.
				if _, twice := found[e.Address]; !twice || e.Local {
					found[e.Address] = e
				}
			}
		}
	}
	list := slices.Collect(maps.Values(found))
	slices.SortFunc(list, func(a, b *Endpoint) int { return strings.Compare(a.String(), b.String()) })
	return list
}

// Snapshot decides for every Service port where packets may go. What it
// returns does not change with the Model. Only Services that have changed since
// the last one are decided anew.
func (m *Model) Snapshot() *Snapshot {
	if m.all {
		m.last = &Snapshot{}
		for name := range m.services {
			m.changed[name] = true
		}
	}
	next := &Snapshot{Endpoints: m.last.Endpoints}
	var same, anew []*Port
	for _, port := range m.last.Ports {
		if m.changed[port.Name.ServiceName] {
			next.Endpoints -= port.all
		} else {
			same = append(same, port)
		}
	}
	for name := range m.changed {
		for _, port := range m.services[name] {
			p := m.decide(port)
			next.Endpoints += p.all
			anew = append(anew, p)
		}
	}
	slices.SortFunc(anew, comparePorts)
	next.Ports = merge(same, anew)
	m.last, m.all = next, false
	m.changed = map[ServiceName]bool{}
	return next
}

// decide makes the Port of a Service port.
func (m *Model) decide(port *ServicePort) *Port {
	all := m.endpoints(port.Name)
	r := decide(port, all, m.node, m.zone)
	return &Port{
		ServicePort: port, ClusterEndpoints: r.cluster, LocalEndpoints: r.local, HasEndpoints: r.any,
		answering: filter(all, func(e *Endpoint) bool { return e.serving }), all: len(all),
	}
}

// Changed tells whether the next snapshot may differ from the last one.
func (m *Model) Changed() bool { return m.all || len(m.changed) > 0 }

func comparePorts(a, b *Port) int { return strings.Compare(a.key, b.key) }

// merge is the ports of two lists in order, in order.
func merge(a, b []*Port) []*Port {
	merged := make([]*Port, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if comparePorts(a[0], b[0]) <= 0 {
			merged, a = append(merged, a[0]), a[1:]
		} else {
			merged, b = append(merged, b[0]), b[1:]
		}
	}
	return append(append(merged, a...), b...)
}
