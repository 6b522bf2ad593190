package dns

import (
	"cmp"
	"net/netip"
	"slices"
)

// records is what one Service means in DNS. It is computed when the Service or
// its endpoints change, and never changed afterwards: queries read it freely.
type records struct {
	addrs  []netip.Addr // A and AAAA of the Service's name
	alias  string       // CNAME of an ExternalName Service, fully qualified
	srv    []srv
	hosts  map[string][]netip.Addr // endpoints of a headless Service by host name
	exists bool                    // false: NXDOMAIN (a headless Service with nobody ready)
}

// srv is one SRV record.
type srv struct {
	port     string // the port's name, "" when it has none: then only listed under the Service's own name
	protocol string
	number   uint16
	host     string // endpoint's host name, "" when the target is the Service itself
}

// compute is pure: the records of a Service with the slices that carry its name.
func compute(svc *service, slicesOf []*slice) *records {
	switch {
	case svc.alias != "":
		return &records{alias: svc.alias, exists: true}
	case svc.headless:
		return headless(slicesOf)
	default:
		return clusterIP(svc)
	}
}

// clusterIP (§2.3): the Service's own addresses, an SRV for each port.
func clusterIP(svc *service) *records {
	r := &records{exists: true, addrs: svc.addrs}
	for _, p := range svc.ports {
		r.srv = append(r.srv, srv{port: p.name, protocol: p.protocol, number: p.number})
	}
	return r
}

// headless (§2.4): one record per ready endpoint, under the Service's name and
// under the endpoint's own; an SRV for each port of each endpoint. The ports
// are the slice's: pods of one Service may give one port name several numbers.
func headless(slicesOf []*slice) *records {
	r := &records{hosts: map[string][]netip.Addr{}}
	for _, slice := range slicesOf {
		for _, e := range slice.endpoints {
			r.addEndpoint(e, slice.ports)
		}
	}
	// The same pod may stand in two slices while the controller moves it.
	slices.SortFunc(r.addrs, netip.Addr.Compare)
	r.addrs = slices.Compact(r.addrs)
	slices.SortFunc(r.srv, compareSRV)
	r.srv = slices.Compact(r.srv)
	r.exists = len(r.addrs) > 0
	return r
}

func (r *records) addEndpoint(e endpoint, ports []port) {
	r.addrs = append(r.addrs, e.addr)
	if !slices.Contains(r.hosts[e.host], e.addr) {
		r.hosts[e.host] = append(r.hosts[e.host], e.addr)
	}
	for _, p := range ports {
		r.srv = append(r.srv, srv{p.name, p.protocol, p.number, e.host})
	}
}

func compareSRV(a, b srv) int {
	return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.number, b.number), cmp.Compare(a.host, b.host))
}
