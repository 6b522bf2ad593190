package resource

import (
	corev1 "k8s.io/api/core/v1"
)

// prepareService brings a Service's fields in step with its type, before
// addresses and ports are chosen.
func prepareService(s, old *corev1.Service) {
	if old == nil {
		s.Status = corev1.ServiceStatus{}
	} else {
		keepAllocated(s, old)
		dropForType(s, old)
	}
	syncClusterIPs(s, old)
	defaultFamilies(s)
}

// keepAllocated: who updates a Service without naming its ClusterIP or node
// ports means those it has. `kubectl replace` with the manifest of the create
// works because of this.
func keepAllocated(s, old *corev1.Service) {
	if NeedsClusterIP(s) && NeedsClusterIP(old) {
		if s.Spec.ClusterIP == "" {
			s.Spec.ClusterIP = old.Spec.ClusterIP
		}
		if len(s.Spec.ClusterIPs) == 0 && s.Spec.ClusterIP == old.Spec.ClusterIP {
			s.Spec.ClusterIPs = old.Spec.ClusterIPs
		}
		if s.Spec.IPFamilyPolicy == nil {
			s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = old.Spec.IPFamilyPolicy, old.Spec.IPFamilies
		}
	}
	if mayHaveNodePorts(s) && mayHaveNodePorts(old) {
		keepNodePorts(s, old)
	}
	if needsHealthPort(s) && needsHealthPort(old) && s.Spec.HealthCheckNodePort == 0 {
		s.Spec.HealthCheckNodePort = old.Spec.HealthCheckNodePort
	}
}

func keepNodePorts(s, old *corev1.Service) {
	type portKey struct {
		protocol corev1.Protocol
		port     int32
	}
	have, used := map[portKey]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		have[portKey{p.Protocol, p.Port}] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		used[p.NodePort] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if node := have[portKey{p.Protocol, p.Port}]; p.NodePort == 0 && !used[node] {
			p.NodePort = node
		}
	}
}

// dropForType: fields that the old type had and the new one cannot have go by
// themselves when the client left them as they were. So
// `kubectl patch svc web -p '{"spec":{"type":"ClusterIP"}}'` just works.
func dropForType(s, old *corev1.Service) {
	if NeedsClusterIP(old) && !NeedsClusterIP(s) && s.Spec.ClusterIP == old.Spec.ClusterIP {
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		s.Spec.IPFamilies, s.Spec.IPFamilyPolicy = nil, nil
		s.Spec.InternalTrafficPolicy = nil
	}
	if mayHaveNodePorts(old) && !mayHaveNodePorts(s) && sameNodePorts(s, old) {
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	}
	if needsHealthPort(old) && !needsHealthPort(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	if old.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		s.Spec.AllocateLoadBalancerNodePorts = nil
		s.Spec.LoadBalancerClass = nil
	}
	if externallyReachable(old) && !externallyReachable(s) {
		s.Spec.ExternalTrafficPolicy = ""
	}
}

func sameNodePorts(s, old *corev1.Service) bool {
	have := map[int32]bool{0: true}
	for _, p := range old.Spec.Ports {
		have[p.NodePort] = true
	}
	for _, p := range s.Spec.Ports {
		if !have[p.NodePort] {
			return false
		}
	}
	return true
}

// syncClusterIPs keeps the old field clusterIP and the list in step: the first
// of the list is the one.
func syncClusterIPs(s, old *corev1.Service) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	switch {
	case s.Spec.ClusterIP != "" && len(s.Spec.ClusterIPs) == 0:
		s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
	case old != nil && s.Spec.ClusterIP != old.Spec.ClusterIP && equalStrings(s.Spec.ClusterIPs, old.Spec.ClusterIPs):
		// The client changed the old field alone.
		s.Spec.ClusterIPs = nil
		if s.Spec.ClusterIP != "" {
			s.Spec.ClusterIPs = []string{s.Spec.ClusterIP}
		}
	}
}

func equalStrings(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// defaultFamilies: the cluster has IPv4 addresses. A headless Service without a
// selector has whatever addresses somebody writes into its endpoints.
func defaultFamilies(s *corev1.Service) {
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		return
	}
	headless := len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
	if headless && len(s.Spec.Selector) == 0 {
		if s.Spec.IPFamilyPolicy == nil && len(s.Spec.IPFamilies) == 0 {
			policy := corev1.IPFamilyPolicyRequireDualStack
			s.Spec.IPFamilyPolicy = &policy
			s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		}
	}
	setPtr(&s.Spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack)
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
}

// NeedsClusterIP tells which types get an address, unless it is "None".
func NeedsClusterIP(s *corev1.Service) bool {
	if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone {
		return false
	}
	return hasClusterIP(s)
}

// NeedsNodePorts tells for which types every port gets a node port.
func NeedsNodePorts(s *corev1.Service) bool {
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort:
		return true
	case corev1.ServiceTypeLoadBalancer:
		return s.Spec.AllocateLoadBalancerNodePorts == nil || *s.Spec.AllocateLoadBalancerNodePorts
	}
	return false
}

// NodePorts are the node ports a Service holds, each once.
func NodePorts(s *corev1.Service) []int32 {
	var list []int32
	seen := map[int32]bool{0: true}
	for _, p := range s.Spec.Ports {
		if !seen[p.NodePort] {
			seen[p.NodePort] = true
			list = append(list, p.NodePort)
		}
	}
	if p := s.Spec.HealthCheckNodePort; !seen[p] {
		list = append(list, p)
	}
	return list
}

func mayHaveNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer
}

// NeedsHealthPort tells who has a health check node port: load balancers ask each node on this port whether it has an
// endpoint of the Service, when traffic must not go on to other nodes.
func NeedsHealthPort(s *corev1.Service) bool { return needsHealthPort(s) }

func needsHealthPort(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}
