package resource

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// prepareService brings a Service's fields in step with its type, before
// addresses and ports are chosen.
func prepareService(s, old *corev1.Service) {
	if old == nil {
		s.Status = corev1.ServiceStatus{}
	} else {
		keepAllocated(s, old)
	}
	syncClusterIPs(s, old)
	if old != nil {
		dropForType(s, old)
	}
	if p := s.Spec.InternalTrafficPolicy; s.Spec.Type == corev1.ServiceTypeExternalName && p != nil && slices.Contains(policies, string(*p)) {
		s.Spec.InternalTrafficPolicy = nil // a name has no traffic
	}
}

// keepAllocated: who updates a Service without naming its ClusterIP or node
// ports means those it has. `kubectl replace` with the manifest of the create
// works because of this.
func keepAllocated(s, old *corev1.Service) {
	if hasAddress(s) && hasAddress(old) {
		set(&s.Spec.ClusterIP, old.Spec.ClusterIP)
		if len(s.Spec.ClusterIPs) == 0 {
			s.Spec.ClusterIPs = old.Spec.ClusterIPs
		}
	}
	if NeedsNodePorts(s) && NeedsNodePorts(old) {
		keepNodePorts(s, old)
	}
	if NeedsHealthPort(s) && NeedsHealthPort(old) {
		set(&s.Spec.HealthCheckNodePort, old.Spec.HealthCheckNodePort)
	}
}

// keepNodePorts gives each port the node port that the old port of its name
// had, unless another one has it now.
func keepNodePorts(s, old *corev1.Service) {
	have, used := map[string]int32{}, map[int32]bool{}
	for _, p := range old.Spec.Ports {
		have[p.Name] = p.NodePort
	}
	for _, p := range s.Spec.Ports {
		used[p.NodePort] = true
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if node := have[p.Name]; p.NodePort == 0 && !used[node] {
			p.NodePort = node
		}
	}
}

// dropForType: fields that the old type had and the new one cannot have go by
// themselves when the client left them as they were. So
// `kubectl patch svc web -p '{"spec":{"type":"ClusterIP"}}'` just works. What
// the client did change stays, and validation refuses it.
func dropForType(s, old *corev1.Service) {
	if hasAddress(old) && !hasAddress(s) {
		if s.Spec.ClusterIP == old.Spec.ClusterIP && slices.Equal(s.Spec.ClusterIPs, old.Spec.ClusterIPs) {
			s.Spec.ClusterIP, s.Spec.ClusterIPs = "", nil
		}
		if slices.Equal(s.Spec.IPFamilies, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = nil
		}
		if familyPolicy(s) == familyPolicy(old) {
			s.Spec.IPFamilyPolicy = nil
		}
	}
	if MayHaveNodePorts(old) && !MayHaveNodePorts(s) && sameNodePorts(s, old) {
		for i := range s.Spec.Ports {
			s.Spec.Ports[i].NodePort = 0
		}
	}
	if NeedsHealthPort(old) && !NeedsHealthPort(s) && s.Spec.HealthCheckNodePort == old.Spec.HealthCheckNodePort {
		s.Spec.HealthCheckNodePort = 0
	}
	if isBalancer(old) && !isBalancer(s) {
		if equalPtr(s.Spec.AllocateLoadBalancerNodePorts, old.Spec.AllocateLoadBalancerNodePorts) {
			s.Spec.AllocateLoadBalancerNodePorts = nil
		}
		if equalPtr(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
			s.Spec.LoadBalancerClass = nil
		}
	}
	if externallyReachable(old) && !externallyReachable(s) && s.Spec.ExternalTrafficPolicy == old.Spec.ExternalTrafficPolicy {
		s.Spec.ExternalTrafficPolicy = ""
	}
	if !isBalancer(s) {
		s.Status.LoadBalancer = corev1.LoadBalancerStatus{}
	}
}

func equalPtr[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// sameNodePorts: the new Service names no node port that the old one had not.
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
// of the list is the one. Clients of before 1.20 know the old field alone.
func syncClusterIPs(s, old *corev1.Service) {
	one, list := &s.Spec.ClusterIP, &s.Spec.ClusterIPs
	if old == nil {
		if *one != "" && len(*list) == 0 {
			*list = []string{*one}
		}
		return
	}
	if len(*list) == 0 && *one == old.Spec.ClusterIP {
		*list = old.Spec.ClusterIPs
	}
	if *one == old.Spec.ClusterIP || !slices.Equal(*list, old.Spec.ClusterIPs) {
		return
	}
	// The client changed the old field alone.
	*list = nil
	if *one != "" {
		*list = []string{*one}
	}
}

// hasAddress: all types but one have an address, or say that they have none.
func hasAddress(s *corev1.Service) bool { return s.Spec.Type != corev1.ServiceTypeExternalName }

func isBalancer(s *corev1.Service) bool { return s.Spec.Type == corev1.ServiceTypeLoadBalancer }

// headless: the name leads to the pods themselves.
func headless(s *corev1.Service) bool {
	return len(s.Spec.ClusterIPs) == 1 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
}

// NeedsClusterIP tells which types get an address, unless it is "None".
func NeedsClusterIP(s *corev1.Service) bool {
	return hasAddress(s) && (len(s.Spec.ClusterIPs) == 0 || s.Spec.ClusterIPs[0] != corev1.ClusterIPNone)
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

// MayHaveNodePorts tells which types may name node ports.
func MayHaveNodePorts(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || isBalancer(s)
}

// NeedsHealthPort tells who has a health check node port: load balancers ask each node on this port whether it has an
// endpoint of the Service, when traffic must not go on to other nodes.
func NeedsHealthPort(s *corev1.Service) bool {
	return isBalancer(s) && s.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal
}
