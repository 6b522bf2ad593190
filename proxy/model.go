package proxy

import (
	"maps"
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
	slices   map[ServiceName]map[string][]portEndpoints // by the slice's name

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
		slices:   map[ServiceName]map[string][]portEndpoints{},
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
func (m *Model) SetService(svc *corev1.Service) {
	name := ServiceName{svc.Namespace, svc.Name}
	ports := servicePorts(svc, m.family)
	if len(ports) == 0 {
		m.DeleteService(name)
		return
	}
	m.changed[name] = true
	m.services[name] = ports
}

// DeleteService forgets a Service.
func (m *Model) DeleteService(name ServiceName) {
	if _, known := m.services[name]; known {
		m.changed[name] = true
		delete(m.services, name)
	}
}

// SetSlice adds or replaces an EndpointSlice. Slices of headless Services are
// for DNS.
func (m *Model) SetSlice(slice *discoveryv1.EndpointSlice) {
	owner, ok := sliceOwner(slice)
	if !ok || string(slice.AddressType) != string(m.family) {
		return
	}
	if _, headless := slice.Labels[corev1.IsHeadlessService]; headless {
		m.DeleteSlice(slice)
		return
	}
	m.changed[owner] = true
	if m.slices[owner] == nil {
		m.slices[owner] = map[string][]portEndpoints{}
	}
	m.slices[owner][slice.Name] = sliceEndpoints(slice, m.node)
}

// DeleteSlice forgets an EndpointSlice.
func (m *Model) DeleteSlice(slice *discoveryv1.EndpointSlice) {
	owner, ok := sliceOwner(slice)
	if !ok {
		return
	}
	if _, known := m.slices[owner][slice.Name]; !known {
		return
	}
	m.changed[owner] = true
	delete(m.slices[owner], slice.Name)
	if len(m.slices[owner]) == 0 {
		delete(m.slices, owner)
	}
}

// sliceOwner is the Service that a slice is of.
func sliceOwner(slice *discoveryv1.EndpointSlice) (ServiceName, bool) {
	name := slice.Labels[discoveryv1.LabelServiceName]
	return ServiceName{slice.Namespace, name}, name != ""
}

// endpoints are all of one port, each once, in the order of their text.
func (m *Model) endpoints(port PortName) []*Endpoint {
	found := map[string]*Endpoint{}
	of := m.slices[port.ServiceName]
	for _, name := range slices.Sorted(maps.Keys(of)) {
		for _, p := range of[name] {
			if p.port != port.Port || p.protocol != port.Protocol {
				continue
			}
			for _, e := range p.endpoints {
				// While the controller moves an endpoint it is in two slices.
				if _, twice := found[e.String()]; !twice || e.Local {
					found[e.String()] = e
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
	clear(m.changed)
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
