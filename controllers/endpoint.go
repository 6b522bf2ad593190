package controllers

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// endpointGroup is a set of endpoints which can share slices: same address family, same ports. Pods of one
// Service differ in ports when it names a port ("web") and its pods give the name to different numbers.
type endpointGroup struct {
	family    discoveryv1.AddressType
	ports     []discoveryv1.EndpointPort
	endpoints []discoveryv1.Endpoint
}

// addToGroup puts an endpoint to those of its family which have the same ports.
func addToGroup(groups []endpointGroup, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoint discoveryv1.Endpoint) []endpointGroup {
	i := slices.IndexFunc(groups, func(g endpointGroup) bool { return g.family == family && samePorts(g.ports, ports) })
	if i < 0 {
		i = len(groups)
		groups = append(groups, endpointGroup{family: family, ports: ports})
	}
	groups[i].endpoints = append(groups[i].endpoints, endpoint)
	return groups
}

// desiredEndpoints turns the pods behind a Service into endpoints. A pod on a node which the cache does not
// know is left out and reported as error, so that the Service is looked at again.
func desiredEndpoints(service *corev1.Service, pods []*corev1.Pod, node func(string) (*corev1.Node, error)) ([]endpointGroup, error) {
	var groups []endpointGroup
	var missing []error
	slices.SortFunc(pods, func(a, b *corev1.Pod) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for _, family := range addressFamilies(service) {
		for _, pod := range pods {
			address := podAddress(pod, family)
			if podFinished(pod) || address == "" {
				continue
			}
			var on *corev1.Node
			if pod.Spec.NodeName != "" {
				var err error
				if on, err = node(pod.Spec.NodeName); err != nil && !service.Spec.PublishNotReadyAddresses {
					missing = append(missing, fmt.Errorf("leave out pod %s: node %s: %w", keyOf(pod), pod.Spec.NodeName, err))
					continue
				}
			}
			ports := endpointPorts(service, pod)
			if len(service.Spec.Ports) > 0 && len(ports) == 0 {
				continue // it has none of the named ports
			}
			groups = addToGroup(groups, family, ports, endpointOf(service, pod, on, address))
		}
	}
	return groups, errors.Join(missing...)
}

func endpointOf(service *corev1.Service, pod *corev1.Pod, node *corev1.Node, address string) discoveryv1.Endpoint {
	serving, terminating := podReady(pod), pod.DeletionTimestamp != nil
	ready := service.Spec.PublishNotReadyAddresses || serving && !terminating
	endpoint := discoveryv1.Endpoint{
		Addresses:  []string{address},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		endpoint.NodeName = new(pod.Spec.NodeName)
	}
	if node != nil && node.Labels[corev1.LabelTopologyZone] != "" {
		endpoint.Zone = new(node.Labels[corev1.LabelTopologyZone])
	}
	// A pod which says hostname web-0 and subdomain web gets a name of its own, web-0.web.default.svc…
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name {
		endpoint.Hostname = new(pod.Spec.Hostname)
	}
	endpoint.Hints = hints(service, endpoint, ready)
	return endpoint
}

// hints carry out spec.trafficDistribution: an endpoint is meant for the clients of its own zone, or node.
func hints(service *corev1.Service, endpoint discoveryv1.Endpoint, ready bool) *discoveryv1.EndpointHints {
	if service.Spec.TrafficDistribution == nil || !ready {
		return nil
	}
	var hints discoveryv1.EndpointHints
	switch *service.Spec.TrafficDistribution {
	case corev1.ServiceTrafficDistributionPreferSameNode:
		if endpoint.NodeName != nil {
			hints.ForNodes = []discoveryv1.ForNode{{Name: *endpoint.NodeName}}
		}
		fallthrough
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone:
		if endpoint.Zone != nil {
			hints.ForZones = []discoveryv1.ForZone{{Name: *endpoint.Zone}}
		}
	}
	if hints.ForNodes == nil && hints.ForZones == nil {
		return nil
	}
	return &hints
}

// endpointPorts resolves the targetPorts of a Service on one pod. A number is itself; a name is looked up
// among the container ports, and a port whose name the pod does not have is left out.
func endpointPorts(service *corev1.Service, pod *corev1.Pod) []discoveryv1.EndpointPort {
	var ports []discoveryv1.EndpointPort
	for _, port := range service.Spec.Ports {
		number, ok := targetPort(port, pod)
		if !ok {
			continue
		}
		protocol := port.Protocol
		ports = append(ports, discoveryv1.EndpointPort{Name: new(port.Name), Port: &number, Protocol: &protocol, AppProtocol: port.AppProtocol})
	}
	return ports
}

func targetPort(port corev1.ServicePort, pod *corev1.Pod) (int32, bool) {
	if port.TargetPort.Type == intstr.Int {
		if port.TargetPort.IntVal == 0 {
			return port.Port, true
		}
		return port.TargetPort.IntVal, true
	}
	containers := pod.Spec.Containers
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			containers = append(slices.Clip(containers), container) // a sidecar
		}
	}
	for _, container := range containers {
		for _, candidate := range container.Ports {
			if candidate.Name == port.TargetPort.StrVal && candidate.Protocol == port.Protocol {
				return candidate.ContainerPort, true
			}
		}
	}
	return 0, false
}

// addressFamilies are the slices' address types: one Service of two families has slices of both.
func addressFamilies(service *corev1.Service) []discoveryv1.AddressType {
	var families []discoveryv1.AddressType
	for _, family := range service.Spec.IPFamilies {
		families = append(families, discoveryv1.AddressType(family))
	}
	if families == nil {
		return []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4}
	}
	return families
}

func podAddress(pod *corev1.Pod, family discoveryv1.AddressType) string {
	for _, ip := range append([]corev1.PodIP{{IP: pod.Status.PodIP}}, pod.Status.PodIPs...) {
		address, err := netip.ParseAddr(ip.IP)
		if err == nil && address.Is4() == (family == discoveryv1.AddressTypeIPv4) {
			return ip.IP
		}
	}
	return ""
}

func samePorts(a, b []discoveryv1.EndpointPort) bool {
	return slices.EqualFunc(a, b, func(a, b discoveryv1.EndpointPort) bool {
		return equalOrNil(a.Name, b.Name) && equalOrNil(a.Port, b.Port) && equalOrNil(a.Protocol, b.Protocol) && equalOrNil(a.AppProtocol, b.AppProtocol)
	})
}

func equalOrNil[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// endpointID is what makes an endpoint the same endpoint before and after a change.
func endpointID(endpoint discoveryv1.Endpoint) types.UID {
	if endpoint.TargetRef != nil && endpoint.TargetRef.UID != "" {
		return endpoint.TargetRef.UID
	}
	return types.UID(endpoint.Addresses[0])
}
