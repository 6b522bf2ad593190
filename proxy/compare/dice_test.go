package compare

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// TestSeedRepeats: a difference can be had again.
func TestSeedRepeats(t *testing.T) {
	tell := func(seed uint64) (told []string) {
		c := newCluster(seed)
		for range 20 {
			told = append(told, describe(c.step()))
		}
		return told
	}
	if !slices.Equal(tell(7), tell(7)) {
		t.Error("seed 7 gives two different stories")
	}
	if slices.Equal(tell(7), tell(8)) {
		t.Error("seeds 7 and 8 give the same story")
	}
}

// TestDice: whatever falls, nothing comes about of which kube-proxy does not say
// what it means, and each thing that a proxy looks at comes about.
func TestDice(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(20) {
		c := newCluster(seed)
		for range 60 {
			for _, change := range c.step() {
				notice(seen, change)
			}
			checkServices(t, c)
		}
	}
	wanted := slices.Concat(slices.Collect(maps.Keys(serviceFeatures)), slices.Collect(maps.Keys(sliceFeatures)), []string{
		"dual-stack", "IPv6 alone", "create Service", "update Service", "delete Service", "status Service",
		"create EndpointSlice", "update EndpointSlice", "delete EndpointSlice",
	})
	for _, name := range wanted {
		if !seen[name] {
			t.Errorf("never in 1200 steps: %s", name)
		}
	}
}

func checkServices(t *testing.T, c *cluster) {
	t.Helper()
	owner := map[string]string{}
	for _, s := range c.services {
		for _, address := range s.addresses() {
			if address != "" && owner[address] != "" {
				t.Fatalf("%s belongs to %s and to %s", address, owner[address], s.object.Name)
			}
			owner[address] = s.object.Name
		}
		in := map[string]string{}
		for _, slice := range s.slices {
			for _, endpoint := range slice.Endpoints {
				address := endpoint.Addresses[0]
				if slice.AddressType != discoveryv1.AddressTypeFQDN && in[address] != "" && in[address] != slice.Name {
					t.Fatalf("%s is in %s and in %s", address, in[address], slice.Name)
				}
				in[address] = slice.Name
			}
		}
	}
}

func notice(seen map[string]bool, c change) {
	if c.slice != nil {
		seen[c.verb+" EndpointSlice"] = true
		for name, in := range sliceFeatures {
			seen[name] = seen[name] || in(c.slice)
		}
		return
	}
	seen[c.verb+" Service"] = true
	seen["dual-stack"] = seen["dual-stack"] || len(c.second) == 2
	seen["IPv6 alone"] = seen["IPv6 alone"] || len(c.second) == 1
	for name, in := range serviceFeatures {
		seen[name] = seen[name] || in(&c.service.Spec, c.service)
	}
}

// serviceFeatures are what a proxy looks at in a Service.
var serviceFeatures = map[string]func(*corev1.ServiceSpec, *corev1.Service) bool{
	"NodePort":     func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.Type == corev1.ServiceTypeNodePort },
	"ExternalName": func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.Type == corev1.ServiceTypeExternalName },
	"headless":     func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.ClusterIP == corev1.ClusterIPNone },
	"a load balancer without node ports": func(s *corev1.ServiceSpec, _ *corev1.Service) bool {
		return s.AllocateLoadBalancerNodePorts != nil && !*s.AllocateLoadBalancerNodePorts
	},
	"source ranges": func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return len(s.LoadBalancerSourceRanges) > 1 },
	"three ports":   func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return len(s.Ports) == 3 },
	"SCTP":          func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.Ports[0].Protocol == corev1.ProtocolSCTP },
	"UDP":           func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.Ports[0].Protocol == corev1.ProtocolUDP },
	"a timeout":     func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.SessionAffinityConfig != nil },
	"affinity by default": func(s *corev1.ServiceSpec, _ *corev1.Service) bool {
		return s.SessionAffinity != "" && s.SessionAffinityConfig == nil
	},
	"internal Local":       func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.InternalTrafficPolicy != nil },
	"external Local":       func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.ExternalTrafficPolicy != "" },
	"external IPs":         func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return len(s.ExternalIPs) > 1 },
	"trafficDistribution":  func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.TrafficDistribution != nil },
	"not ready, published": func(s *corev1.ServiceSpec, _ *corev1.Service) bool { return s.PublishNotReadyAddresses },
	"ipMode Proxy": func(_ *corev1.ServiceSpec, s *corev1.Service) bool {
		return slices.ContainsFunc(s.Status.LoadBalancer.Ingress, func(i corev1.LoadBalancerIngress) bool {
			return i.IPMode != nil && *i.IPMode == corev1.LoadBalancerIPModeProxy
		})
	},
	"another proxy's": func(_ *corev1.ServiceSpec, s *corev1.Service) bool {
		return s.Labels["service.kubernetes.io/service-proxy-name"] != ""
	},
}

// sliceFeatures are what a proxy looks at in an EndpointSlice.
var sliceFeatures = map[string]func(*discoveryv1.EndpointSlice) bool{
	"FQDN":            func(e *discoveryv1.EndpointSlice) bool { return e.AddressType == discoveryv1.AddressTypeFQDN },
	"IPv6":            func(e *discoveryv1.EndpointSlice) bool { return e.AddressType == discoveryv1.AddressTypeIPv6 },
	"no endpoints":    func(e *discoveryv1.EndpointSlice) bool { return len(e.Endpoints) == 0 },
	"no ports":        func(e *discoveryv1.EndpointSlice) bool { return len(e.Ports) == 0 },
	"headless slice":  func(e *discoveryv1.EndpointSlice) bool { _, ok := e.Labels[corev1.IsHeadlessService]; return ok },
	"hints of a zone": some(func(e discoveryv1.Endpoint) bool { return e.Hints != nil && len(e.Hints.ForZones) > 0 }),
	"hints of a node": some(func(e discoveryv1.Endpoint) bool { return e.Hints != nil && len(e.Hints.ForNodes) > 0 }),
	"on a node's IP":  some(func(e discoveryv1.Endpoint) bool { return e.Addresses[0] == "192.168.56.11" }),
	"without a node":  some(func(e discoveryv1.Endpoint) bool { return e.NodeName == nil }),
	"no conditions":   some(func(e discoveryv1.Endpoint) bool { return e.Conditions == discoveryv1.EndpointConditions{} }),
	"ending, serving": some(func(e discoveryv1.Endpoint) bool { return is(e.Conditions.Terminating) && is(e.Conditions.Serving) }),
	"an address twice": func(e *discoveryv1.EndpointSlice) bool {
		seen := map[string]bool{}
		return some(func(e discoveryv1.Endpoint) bool {
			twice := seen[e.Addresses[0]]
			seen[e.Addresses[0]] = true
			return twice
		})(e) && e.AddressType != discoveryv1.AddressTypeFQDN
	},
}

func is(condition *bool) bool { return condition != nil && *condition }

func some(endpoint func(discoveryv1.Endpoint) bool) func(*discoveryv1.EndpointSlice) bool {
	return func(e *discoveryv1.EndpointSlice) bool { return slices.ContainsFunc(e.Endpoints, endpoint) }
}
