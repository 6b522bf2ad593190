package proxy

import (
	"cmp"
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
}

// NewModel is a Model as seen from one node. Services and endpoints of the
// other IP family do not exist in it.
func NewModel(node string, family corev1.IPFamily) *Model {
	return &Model{
		node:     node,
		family:   family,
		services: map[ServiceName][]*ServicePort{},
		slices:   map[ServiceName]map[string][]portEndpoints{},
	}
}

// SetZone tells in which zone the node is: topology.kubernetes.io/zone.
func (m *Model) SetZone(zone string) (changed bool) {
	changed = m.zone != zone
	m.zone = zone
	return changed
}

// SetService adds or replaces a Service.
func (m *Model) SetService(svc *corev1.Service) {
	name := ServiceName{svc.Namespace, svc.Name}
	if ports := servicePorts(svc, m.family); len(ports) > 0 {
		m.services[name] = ports
	} else {
		delete(m.services, name)
	}
}

// DeleteService forgets a Service.
func (m *Model) DeleteService(name ServiceName) { delete(m.services, name) }

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
// returns does not change with the Model.
func (m *Model) Snapshot() *Snapshot {
	snapshot := &Snapshot{}
	for _, ports := range m.services {
		for _, port := range ports {
			all := m.endpoints(port.Name)
			r := decide(port, all, m.node, m.zone)
			snapshot.Ports = append(snapshot.Ports, Port{
				ServicePort: port, ClusterEndpoints: r.cluster, LocalEndpoints: r.local, HasEndpoints: r.any,
				answering: filter(all, func(e *Endpoint) bool { return e.serving }),
			})
			snapshot.Endpoints += len(all)
		}
	}
	slices.SortFunc(snapshot.Ports, func(a, b Port) int {
		return cmp.Or(strings.Compare(a.Name.String(), b.Name.String()), strings.Compare(string(a.Name.Protocol), string(b.Name.Protocol)))
	})
	return snapshot
}
