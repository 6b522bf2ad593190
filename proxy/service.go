package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ServiceName names a Service.
type ServiceName struct{ Namespace, Name string }

// String is "default/nginx".
func (n ServiceName) String() string { return n.Namespace + "/" + n.Name }

// PortName names one port of a Service; its String is what rules carry as
// comment and what their chains' names are hashed from.
type PortName struct {
	ServiceName
	Port     string // the port's name, may be empty
	Protocol corev1.Protocol
}

// String is "default/nginx", or "default/kubernetes:https" for a named port.
func (n PortName) String() string {
	name := n.ServiceName.String()
	if n.Port != "" {
		name += ":" + n.Port
	}
	return name
}

// ServicePort is one port of a Service, as far as packets are concerned. It is
// never changed after it was made.
type ServicePort struct {
	Name                PortName
	key                 string // orders ports: the name, then the protocol
	ClusterIP           netip.Addr
	Port                uint16
	NodePort            uint16 // 0: none
	ExternalIPs         []netip.Addr
	LoadBalancerIPs     []netip.Addr
	SourceRanges        []netip.Prefix // who may use the load balancer's address; empty: everybody
	AffinityTimeout     time.Duration  // of sessionAffinity ClientIP; 0: none
	InternalLocal       bool           // internalTrafficPolicy: Local
	ExternalLocal       bool           // externalTrafficPolicy: Local
	HealthCheckNodePort uint16
}

// protocol in lower case, as rules write it: tcp, udp, sctp.
func (n PortName) protocol() string { return strings.ToLower(string(n.Protocol)) }

// LowerProtocol is the protocol as rules write it: tcp, udp, sctp.
func (p *ServicePort) LowerProtocol() string { return p.Name.protocol() }

// ExternallyAccessible tells whether anything but the ClusterIP leads here.
func (p *ServicePort) ExternallyAccessible() bool {
	return p.NodePort != 0 || len(p.ExternalIPs) > 0 || len(p.LoadBalancerIPs) > 0
}

// usesClusterEndpoints: with both policies Local, pods and the node itself may
// still use the external addresses, and go anywhere from there.
func (p *ServicePort) usesClusterEndpoints() bool {
	return !p.InternalLocal || p.ExternallyAccessible()
}

func (p *ServicePort) usesLocalEndpoints() bool {
	return p.InternalLocal || p.ExternalLocal && p.ExternallyAccessible()
}

// LabelServiceProxyName on a Service, with any value, leaves it to another proxy.
const LabelServiceProxyName = "service.kubernetes.io/service-proxy-name"

// servicePorts reads a Service; nothing of it is for us when it is headless,
// an external name, of the other IP family, or another proxy's.
func servicePorts(svc *corev1.Service, family corev1.IPFamily) []*ServicePort {
	if _, others := svc.Labels[LabelServiceProxyName]; others {
		return nil
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	// ClusterIP is the first of ClusterIPs, and alone in older objects.
	clusterIPs := parseAddrs(append(slices.Clone(svc.Spec.ClusterIPs), svc.Spec.ClusterIP), family)
	if len(clusterIPs) == 0 {
		return nil
	}
	shared := ServicePort{
		ClusterIP:       clusterIPs[0],
		ExternalIPs:     parseAddrs(svc.Spec.ExternalIPs, family),
		AffinityTimeout: affinity(svc),
		InternalLocal:   svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		ExternalLocal:   externalLocal(svc),
	}
	if shared.ExternalLocal {
		shared.HealthCheckNodePort = uint16(svc.Spec.HealthCheckNodePort)
	}
	shared.LoadBalancerIPs, shared.SourceRanges = loadBalancer(svc, family)
	var ports []*ServicePort
	for _, p := range svc.Spec.Ports {
		port := shared
		port.Name, port.key = oneString(PortName{ServiceName{svc.Namespace, svc.Name}, p.Name, p.Protocol})
		port.Port, port.NodePort = uint16(p.Port), uint16(p.NodePort)
		ports = append(ports, &port)
	}
	return ports
}

// oneString returns the key of a name, "default/kubernetes:https\x00TCP", and the
// name with its parts cut out of it: so each of many thousand names is kept once.
func oneString(name PortName) (parts PortName, key string) {
	key = name.String() + "\x00" + string(name.Protocol)
	rest := key
	cut := func(part string) string {
		part, rest = rest[:len(part)], rest[len(part)+1:] // and what stands behind it
		return part
	}
	parts.Namespace, parts.ServiceName.Name = cut(name.Namespace), cut(name.ServiceName.Name)
	if name.Port != "" {
		parts.Port = cut(name.Port)
	}
	parts.Protocol = corev1.Protocol(rest)
	return parts, key
}

// externalLocal only means something where there are external addresses.
func externalLocal(svc *corev1.Service) bool {
	external := svc.Spec.Type == corev1.ServiceTypeNodePort || svc.Spec.Type == corev1.ServiceTypeLoadBalancer || len(svc.Spec.ExternalIPs) > 0
	return external && svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}

// affinity is the timeout of sessionAffinity: ClientIP; three hours by default.
func affinity(svc *corev1.Service) time.Duration {
	if svc.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return 0
	}
	seconds := corev1.DefaultClientIPServiceAffinitySeconds
	if c := svc.Spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		seconds = *c.ClientIP.TimeoutSeconds
	}
	return time.Duration(seconds) * time.Second
}

// loadBalancer reads the addresses in the status, whatever type the Service has by
// now: as long as they stand there, somebody may come to them. ipMode Proxy means
// that the load balancer ends connections itself, so its address is not for us. A
// range of all addresses lets everybody in, as having no ranges does.
func loadBalancer(svc *corev1.Service, family corev1.IPFamily) (ips []netip.Addr, ranges []netip.Prefix) {
	for _, ingress := range svc.Status.LoadBalancer.Ingress {
		if ingress.IPMode != nil && *ingress.IPMode != corev1.LoadBalancerIPModeVIP {
			continue
		}
		ips = append(ips, parseAddrs([]string{ingress.IP}, family)...)
	}
	for _, r := range svc.Spec.LoadBalancerSourceRanges {
		if prefix, err := netip.ParsePrefix(strings.TrimSpace(r)); err == nil && isOf(prefix.Addr(), family) {
			ranges = append(ranges, prefix.Masked())
		}
	}
	if slices.ContainsFunc(ranges, func(r netip.Prefix) bool { return r.Bits() == 0 }) {
		ranges = nil
	}
	return ips, ranges
}

// isOf tells whether an address is of the family.
func isOf(addr netip.Addr, family corev1.IPFamily) bool {
	return addr.Is4() == (family == corev1.IPv4Protocol)
}

// parseAddrs keeps the addresses of one family of a list.
func parseAddrs(list []string, family corev1.IPFamily) []netip.Addr {
	var addrs []netip.Addr
	for _, s := range list {
		if addr, err := netip.ParseAddr(s); err == nil && isOf(addr, family) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// ofFamily are those of the addresses that are of the family.
func ofFamily(addrs []netip.Addr, family corev1.IPFamily) []netip.Addr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !isOf(a, family) })
}

// describe is a port as the log tells it: "10.96.28.255:80/TCP".
func (p *ServicePort) describe() string {
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(p.ClusterIP, p.Port), p.Name.Protocol)
}
