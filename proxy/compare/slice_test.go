package compare

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

func (c *cluster) newSlices(s *service) []*discoveryv1.EndpointSlice {
	var list []*discoveryv1.EndpointSlice
	for k := range pick(c.dice, 0, 1, 1, 1, 1, 2, 2, 3) {
		slice := &discoveryv1.EndpointSlice{AddressType: c.addressType(s), Ports: c.endpointPorts(s.object.Spec.Ports)}
		slice.Namespace, slice.Name = s.object.Namespace, fmt.Sprintf("%s-%d", s.object.Name, k)
		slice.Labels = map[string]string{discoveryv1.LabelServiceName: s.object.Name}
		switch {
		case c.chance(.03):
			slice.Labels[corev1.IsHeadlessService] = "" // which hides it
		case c.chance(.03): // which means nothing on a slice
			slice.Labels["service.kubernetes.io/service-proxy-name"] = "other"
		}
		for range pick(c.dice, 0, 1, 1, 2, 3, 4, 6) {
			slice.Endpoints = append(slice.Endpoints, c.endpoint(slice.AddressType, k))
		}
		list = append(list, slice)
	}
	return list
}

// endpointPorts are those behind a Service's; now and then one is missing, has
// another name or protocol, or no number.
func (c *cluster) endpointPorts(ports []corev1.ServicePort) []discoveryv1.EndpointPort {
	var list []discoveryv1.EndpointPort
	seen := map[string]bool{}
	for _, p := range ports {
		e := discoveryv1.EndpointPort{Name: new(p.Name), Protocol: new(p.Protocol), Port: new(pick[int32](c.dice, 80, 8080, 9376, 53))}
		if c.chance(.03) {
			e.Name = new("")
		}
		if c.chance(.03) {
			e.Protocol = new(corev1.ProtocolTCP)
		}
		if c.chance(.02) {
			e.Port = nil
		}
		if seen[*e.Name] || c.chance(.07) {
			continue
		}
		seen[*e.Name] = true
		list = append(list, e)
	}
	return list
}

// endpoint is one of slice k. Slices have no address in common: the last number
// is 2 to 40, and k when divided by 3. Within a slice one may come twice.
func (c *cluster) endpoint(kind discoveryv1.AddressType, k int) discoveryv1.Endpoint {
	var e discoveryv1.Endpoint
	node, last := 1+c.dice.IntN(3), 3+3*c.dice.IntN(12)+k
	switch onNode := c.chance(.07); {
	case kind == discoveryv1.AddressTypeFQDN:
		e.Addresses = []string{"a.example.org"}
	case kind == discoveryv1.AddressTypeIPv6 && onNode:
		e.Addresses = []string{fmt.Sprintf("fd00:56::%d", 11+k)}
	case kind == discoveryv1.AddressTypeIPv6:
		e.Addresses = []string{fmt.Sprintf("fd00:10:244:%d::%x", node, last)}
	case onNode:
		e.Addresses = []string{fmt.Sprintf("192.168.56.%d", 11+k)}
	default:
		e.Addresses = []string{fmt.Sprintf("10.244.%d.%d", node, last)}
	}
	if name := pick(c.dice, "node-1", "node-2", "node-3", ""); name != "" {
		e.NodeName = &name
	}
	e.Conditions = c.conditions()
	if c.chance(.4) {
		e.Zone = new(pick(c.dice, "z1", "z2", "z3"))
	}
	if c.chance(.3) {
		e.Hints = c.hints()
	}
	return e
}

// conditions may be absent, each by itself.
func (c *cluster) conditions() discoveryv1.EndpointConditions {
	three := func(ready, serving, terminating bool) discoveryv1.EndpointConditions {
		return discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
	switch roll := c.dice.Float64(); {
	case roll < .55:
		return three(true, true, false)
	case roll < .65:
		return three(false, false, false)
	case roll < .75:
		return three(false, true, true)
	case roll < .8:
		return three(false, false, true)
	}
	maybe := func() *bool { return pick(c.dice, nil, nil, new(true), new(false)) }
	return discoveryv1.EndpointConditions{Ready: maybe(), Serving: maybe(), Terminating: maybe()}
}

func (c *cluster) hints() *discoveryv1.EndpointHints {
	var hints discoveryv1.EndpointHints
	if c.chance(.7) {
		for _, zone := range sample(c.dice, 1+c.dice.IntN(2), "z1", "z2", "z3") {
			hints.ForZones = append(hints.ForZones, discoveryv1.ForZone{Name: zone})
		}
	}
	if c.chance(.5) {
		for _, node := range sample(c.dice, 1+c.dice.IntN(2), "node-1", "node-2", "node-3") {
			hints.ForNodes = append(hints.ForNodes, discoveryv1.ForNode{Name: node})
		}
	}
	return &hints
}
