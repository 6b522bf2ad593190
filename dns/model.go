package dns

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// What DNS keeps of the API's objects: a Service of 2 KB is 100 bytes here.

// key names a Service.
type key struct{ namespace, name string }

// service is what DNS needs of a Service.
type service struct {
	alias    string // ExternalName, fully qualified
	headless bool
	addrs    []netip.Addr
	ports    []port
}

// port of a Service, or of the endpoints of a slice.
type port struct {
	name     string // "" when it has none
	protocol string // tcp, udp or sctp
	number   uint16
}

// slice is what DNS needs of an EndpointSlice: its ready endpoints.
type slice struct {
	service   key
	ports     []port
	endpoints []endpoint
}

// endpoint is one address of a ready endpoint, and the name it has below the
// Service's.
type endpoint struct {
	addr netip.Addr
	host string
}

func readService(svc *corev1.Service) *service {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return &service{alias: fullyQualified(strings.ToLower(svc.Spec.ExternalName))}
	}
	s := &service{headless: svc.Spec.ClusterIP == corev1.ClusterIPNone}
	for _, ip := range svc.Spec.ClusterIPs {
		if addr, err := netip.ParseAddr(ip); err == nil {
			s.addrs = append(s.addrs, addr)
		}
	}
	for _, p := range svc.Spec.Ports {
		s.ports = append(s.ports, port{p.Name, protocol(&p.Protocol), uint16(p.Port)})
	}
	return s
}

func readSlice(object *discoveryv1.EndpointSlice) *slice {
	s := &slice{service: key{object.Namespace, object.Labels[discoveryv1.LabelServiceName]}}
	for _, p := range object.Ports {
		if p.Port != nil { // nil: all ports, which no SRV record can say
			s.ports = append(s.ports, port{deref(p.Name), protocol(p.Protocol), uint16(*p.Port)})
		}
	}
	for _, e := range object.Endpoints {
		if !ready(e.Conditions) {
			continue
		}
		for _, address := range e.Addresses {
			if addr, err := netip.ParseAddr(address); err == nil {
				s.endpoints = append(s.endpoints, endpoint{addr, endpointHost(e, addr)})
			}
		}
	}
	s.endpoints = slices.Clip(s.endpoints)
	return s
}

// ready follows the EndpointSlice API: an unknown condition counts as ready.
// publishNotReadyAddresses is the controller's business: it says ready then.
func ready(c discoveryv1.EndpointConditions) bool { return c.Ready == nil || *c.Ready }

// endpointHost is the endpoint's name below the Service's: the pod's hostname,
// or its address with dashes, 10-244-1-5 (§2.4.1 leaves that to us; this is
// what CoreDNS does).
func endpointHost(e discoveryv1.Endpoint, addr netip.Addr) string {
	if e.Hostname != nil && *e.Hostname != "" {
		return strings.ToLower(*e.Hostname)
	}
	return dashed(addr)
}

// dashed turns 10.244.1.5 into 10-244-1-5, and fd00::5 into fd00--5.
func dashed(addr netip.Addr) string {
	return strings.NewReplacer(".", "-", ":", "-").Replace(addr.String())
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
