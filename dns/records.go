package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
func compute(svc *corev1.Service, slicesOf []*discoveryv1.EndpointSlice) *records {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return &records{alias: fullyQualified(strings.ToLower(svc.Spec.ExternalName)), exists: true}
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return headless(slicesOf)
	default:
		return clusterIP(svc)
	}
}

// clusterIP (§2.3): the Service's own addresses, an SRV for each named port.
func clusterIP(svc *corev1.Service) *records {
	r := &records{exists: true}
	for _, ip := range svc.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(ip); err == nil {
			r.addrs = append(r.addrs, addr)
		}
	}
	for _, p := range svc.Spec.Ports {
		r.srv = append(r.srv, srv{port: p.Name, protocol: protocol(&p.Protocol), number: uint16(p.Port)})
	}
	return r
}

// headless (§2.4): one record per ready endpoint, under the Service's name and
// under the endpoint's own; an SRV for each port of each endpoint.
func headless(slicesOf []*discoveryv1.EndpointSlice) *records {
	r := &records{hosts: map[string][]netip.Addr{}}
	for _, slice := range slicesOf {
		for _, endpoint := range slice.Endpoints {
			if !ready(endpoint.Conditions) {
				continue
			}
			r.addEndpoint(endpoint, slice.Ports)
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

func (r *records) addEndpoint(endpoint discoveryv1.Endpoint, ports []discoveryv1.EndpointPort) {
	for _, address := range endpoint.Addresses {
		addr, err := netip.ParseAddr(address)
		if err != nil {
			continue
		}
		host := endpointHost(endpoint, addr)
		r.addrs = append(r.addrs, addr)
		if !slices.Contains(r.hosts[host], addr) {
			r.hosts[host] = append(r.hosts[host], addr)
		}
		for _, p := range ports {
			if p.Port != nil {
				r.srv = append(r.srv, srv{deref(p.Name), protocol(p.Protocol), uint16(*p.Port), host})
			}
		}
	}
}

// ready follows the EndpointSlice API: an unknown condition counts as ready.
// publishNotReadyAddresses is the controller's business: it says ready then.
func ready(c discoveryv1.EndpointConditions) bool { return c.Ready == nil || *c.Ready }

// endpointHost is the endpoint's name below the Service's: the pod's hostname,
// or its address with dashes, 10-244-1-5 (§2.4.1 leaves that to us; this is
// what CoreDNS does).
func endpointHost(endpoint discoveryv1.Endpoint, addr netip.Addr) string {
	if endpoint.Hostname != nil && *endpoint.Hostname != "" {
		return strings.ToLower(*endpoint.Hostname)
	}
	return dashed(addr)
}

// dashed turns 10.244.1.5 into 10-244-1-5, and fd00::5 into fd00--5.
func dashed(addr netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(addr.String())
}

func compareSRV(a, b srv) int {
	return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.number, b.number), cmp.Compare(a.host, b.host))
}

func protocol(p *corev1.Protocol) string {
	if p == nil || *p == "" {
		return "tcp"
	}
	return strings.ToLower(string(*p))
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return strings.ToLower(*s)
}

func fullyQualified(name string) string {
	if strings.HasSuffix(name, ".") {
		return name
	}
	return name + "."
}
