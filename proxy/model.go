package proxy

import (
	"maps"
	"net/netip"
	"reflect"
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

	services map[ServiceName]*known

	last    *Snapshot
	changed map[ServiceName]bool // since the last snapshot
	all     bool                 // everything is to be decided anew
}

// known is what has been told of one Service. Its ports and its endpoints come
// in any order.
type known struct {
	ports  []*ServicePort
	slices []slicePorts // in the order of their names
}

// slicePorts are the endpoints of one EndpointSlice.
type slicePorts struct {
	name  string
	ports []portEndpoints
}

// NewModel is a Model as seen from one node. Services and endpoints of the
// other IP family do not exist in it.
func NewModel(node string, family corev1.IPFamily) *Model {
	return &Model{
		node:     node,
		family:   family,
		services: map[ServiceName]*known{},
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

func (m *Model) setService(svc *service) { m.setPorts(svc.id(), svc.ports(m.family)) }

// DeleteService forgets a Service.
func (m *Model) DeleteService(name ServiceName) { m.setPorts(name, nil) }

func (m *Model) setPorts(name ServiceName, ports []*ServicePort) {
	of := m.of(name)
	if !reflect.DeepEqual(of.ports, ports) { // not just a label, or a list after an interruption
		of.ports, m.changed[name] = ports, true
	}
	m.forgetEmpty(name)
}

// SetSlice adds or replaces an EndpointSlice.
func (m *Model) SetSlice(slice *discoveryv1.EndpointSlice) { m.setSlice(readSlice(slice, m.node)) }

func (m *Model) setSlice(slice *endpointSlice) (changed bool) {
	if slice.service == "" || string(slice.family) != string(m.family) {
		return false
	}
	if slice.hidden {
		return m.deleteSlice(slice.owner(), slice.name)
	}
	of := m.of(slice.owner())
	i, there := findSlice(of.slices, slice.name)
	switch {
	case !there:
		of.slices = slices.Insert(of.slices, i, slicePorts{slice.name, slice.ports})
	case reflect.DeepEqual(of.slices[i].ports, slice.ports):
		return false
	default:
		of.slices[i].ports = slice.ports
	}
	m.changed[slice.owner()] = true
	return true
}

// DeleteSlice forgets an EndpointSlice.
func (m *Model) DeleteSlice(slice *discoveryv1.EndpointSlice) {
	s := readSlice(slice, m.node)
	m.deleteSlice(s.owner(), s.name)
}

func (m *Model) deleteSlice(owner ServiceName, name string) (changed bool) {
	of := m.of(owner)
	i, there := findSlice(of.slices, name)
	if there {
		of.slices, m.changed[owner] = slices.Delete(of.slices, i, i+1), true
	}
	m.forgetEmpty(owner)
	return there
}

// of is what is known of a Service, to be changed.
func (m *Model) of(name ServiceName) *known {
	if m.services[name] == nil {
		m.services[name] = &known{}
	}
	return m.services[name]
}

// forgetEmpty forgets a Service of which nothing is known any more.
func (m *Model) forgetEmpty(name ServiceName) {
	if of := m.services[name]; len(of.ports)+len(of.slices) == 0 {
		delete(m.services, name)
	}
}

// ports are those of a Service.
func (m *Model) ports(name ServiceName) []*ServicePort {
	if of := m.services[name]; of != nil {
		return of.ports
	}
	return nil
}

// findSlice tells where a slice is among those of a Service, or would be.
func findSlice(of []slicePorts, name string) (int, bool) {
	return slices.BinarySearchFunc(of, name, func(s slicePorts, name string) int { return strings.Compare(s.name, name) })
}

// endpoints are all of one port, each once, in the order of their text.
func (m *Model) endpoints(port PortName) []*Endpoint {
	found := map[netip.AddrPort]*Endpoint{}
	for _, slice := range m.services[port.ServiceName].slices {
		for _, p := range slice.ports {
			if p.port != port.Port || p.protocol != port.Protocol {
				continue
			}
			for i := range p.endpoints {
				e := &p.endpoints[i]
				// While the controller moves an endpoint it is in two slices. Or two pods have the
				// address: one ends, and the pod network has given it to the next, who is meant.
				if _, twice := found[e.Address]; !twice || !e.terminating {
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
		ports, localReady := m.ports(name), 0
		if len(ports) > 0 && ports[0].HealthCheckNodePort != 0 { // the Service's, so any port tells
			localReady = m.localReady(name)
		}
		for _, port := range ports {
			p := m.decide(port)
			p.localReady = localReady
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

// localReady is how many addresses on this node are ready for a Service, whatever the
// port: also for one which the Service has no more and its slices still have, as
// kube-proxy counts them.
func (m *Model) localReady(name ServiceName) int {
	ready, seen := map[netip.Addr]bool{}, map[PortName]bool{}
	for _, slice := range m.services[name].slices {
		for _, p := range slice.ports {
			port := PortName{ServiceName: name, Port: p.port, Protocol: p.protocol}
			if seen[port] { // in every slice of the Service
				continue
			}
			seen[port] = true
			for _, e := range m.endpoints(port) {
				if e.Local && e.ready {
					ready[e.Address.Addr()] = true
				}
			}
		}
	}
	return len(ready)
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
