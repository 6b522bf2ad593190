package compare

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// label sometimes gives a Service what makes kube-proxy leave it to others.
func (c *cluster) label(object *corev1.Service) {
	switch {
	case c.chance(.04):
		object.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": pick(c.dice, "", "other")}
	case c.chance(.04): // which means nothing on a Service
		object.Labels = map[string]string{corev1.IsHeadlessService: ""}
	}
	if c.chance(.1) {
		object.Annotations = map[string]string{corev1.AnnotationTopologyMode: "Auto"}
	}
}

var dual = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}

// spec is a new one, such that the Service may change to it: what cannot change
// stays, its ClusterIP, headless, and the class of its load balancer.
func (c *cluster) spec(s *service) corev1.ServiceSpec {
	old := s.object.Spec
	spec := corev1.ServiceSpec{Type: c.kind(old), Ports: c.ports()}
	if spec.Type == corev1.ServiceTypeExternalName {
		spec.ExternalName = "example.org"
		return spec
	}
	spec.ClusterIP = old.ClusterIP
	switch {
	case old.Type != "":
	case spec.Type == corev1.ServiceTypeClusterIP && c.chance(.06):
		spec.ClusterIP = corev1.ClusterIPNone
	case c.chance(.3):
		spec.ClusterIP = fmt.Sprintf("10.97.%d.%d", s.number/256, s.number%256)
		s.second = pick(c.dice, dual, []corev1.IPFamily{dual[1], dual[0]}, dual[1:])
	}
	if c.chance(.25) {
		c.affinity(&spec)
	}
	if c.chance(.2) {
		spec.InternalTrafficPolicy = new(corev1.ServiceInternalTrafficPolicyLocal)
	}
	if c.chance(.2) {
		free := c.free(s, "192.0.2.7", "192.0.2.8", "192.168.56.11", "203.0.113.9", "2001:db8:7::7", "fd00:56::11")
		spec.ExternalIPs = sample(c.dice, 1+c.dice.IntN(3), free...)
	}
	if (spec.Type != corev1.ServiceTypeClusterIP || len(spec.ExternalIPs) > 0) && c.chance(.35) {
		spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer {
		c.balancer(&spec, old)
	}
	spec.PublishNotReadyAddresses = c.chance(.15)
	if c.chance(.2) {
		spec.TrafficDistribution = new(pick(c.dice, "PreferClose", corev1.ServiceTrafficDistributionPreferSameZone, corev1.ServiceTrafficDistributionPreferSameNode))
	}
	return spec
}

func (c *cluster) kind(old corev1.ServiceSpec) corev1.ServiceType {
	switch roll := c.dice.Float64(); {
	case old.ClusterIP == corev1.ClusterIPNone:
		return corev1.ServiceTypeClusterIP
	case roll < .3:
		return corev1.ServiceTypeNodePort
	case roll < .6:
		return corev1.ServiceTypeLoadBalancer
	case roll < .63:
		return corev1.ServiceTypeExternalName
	}
	return corev1.ServiceTypeClusterIP
}

// ports are one to three, no two the same.
func (c *cluster) ports() []corev1.ServicePort {
	var ports []corev1.ServicePort
	count := pick(c.dice, 1, 1, 1, 2, 2, 3)
	for len(ports) < count {
		p := corev1.ServicePort{
			Port:     pick[int32](c.dice, 80, 443, 53, 8080, 9090),
			Protocol: pick(c.dice, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP),
		}
		if slices.ContainsFunc(ports, func(o corev1.ServicePort) bool { return o.Port == p.Port && o.Protocol == p.Protocol }) {
			continue
		}
		if count > 1 || c.chance(.3) {
			p.Name = fmt.Sprintf("p%d", len(ports))
		}
		if c.chance(.1) {
			p.AppProtocol = new("http")
		}
		ports = append(ports, p)
	}
	return ports
}

func (c *cluster) affinity(spec *corev1.ServiceSpec) {
	spec.SessionAffinity = corev1.ServiceAffinityClientIP
	if c.chance(.5) {
		seconds := pick[int32](c.dice, 10, 600, 86400)
		spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &seconds}}
	}
}

func (c *cluster) balancer(spec *corev1.ServiceSpec, old corev1.ServiceSpec) {
	if c.chance(.4) {
		spec.LoadBalancerSourceRanges = sample(c.dice, 1+c.dice.IntN(3),
			"10.0.0.0/8", "192.168.56.0/24", "198.51.100.0/24", "192.168.56.11/32", "0.0.0.0/0", "172.16.0.0/12", "2001:db8::/32", "::/0")
	}
	if c.chance(.25) {
		spec.AllocateLoadBalancerNodePorts = new(false)
	}
	switch {
	case old.Type == corev1.ServiceTypeLoadBalancer:
		spec.LoadBalancerClass = old.LoadBalancerClass
	case c.chance(.15):
		spec.LoadBalancerClass = new("example.org/balancer")
	}
}

// status is what a load balancer's controller would write.
func (c *cluster) status(s *service) corev1.ServiceStatus {
	var status corev1.ServiceStatus
	free := c.free(s, "198.51.100.5", "198.51.100.6", "198.51.100.7", "192.168.56.200", "2001:db8:100::5", "2001:db8:100::6")
	for _, ip := range sample(c.dice, pick(c.dice, 0, 1, 1, 2, 3), free...) {
		ingress := corev1.LoadBalancerIngress{IP: ip}
		if c.chance(.3) {
			ingress.IPMode = new(pick(c.dice, corev1.LoadBalancerIPModeVIP, corev1.LoadBalancerIPModeProxy))
		}
		status.LoadBalancer.Ingress = append(status.LoadBalancer.Ingress, ingress)
	}
	if c.chance(.1) {
		status.LoadBalancer.Ingress = append(status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{Hostname: "lb.example.org"})
	}
	return status
}

// addressType is one that the Service may have slices of, or another.
func (c *cluster) addressType(s *service) discoveryv1.AddressType {
	switch roll := c.dice.Float64(); {
	case roll < .03:
		return discoveryv1.AddressTypeFQDN
	case roll < .06:
		return discoveryv1.AddressTypeIPv6
	case s.second != nil:
		return discoveryv1.AddressType(pick(c.dice, s.second...))
	}
	return discoveryv1.AddressTypeIPv4
}

// setFamilies makes a Service of number 258 and ClusterIP 10.97.1.2 one of these
// families: with IPv6 it has fd00:10:97::102 too, or alone; nil is IPv4 alone.
func setFamilies(s *corev1.Service, ip string, families []corev1.IPFamily) {
	four := netip.MustParseAddr(ip).As4()
	six := fmt.Sprintf("fd00:10:97::%x", 256*int(four[2])+int(four[3]))
	policy := corev1.IPFamilyPolicySingleStack
	if len(families) == 0 {
		families = dual[:1]
	} else if len(families) == 2 {
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	s.Spec.IPFamilies, s.Spec.IPFamilyPolicy, s.Spec.ClusterIPs = families, &policy, nil
	for _, family := range families {
		if family == corev1.IPv4Protocol {
			s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, ip)
		} else {
			s.Spec.ClusterIPs = append(s.Spec.ClusterIPs, six)
		}
	}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
}
