package controllers

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// desiredEndpointsObject is the pure part: addresses of the Service's first family, grouped into subsets of
// equal ports. Pods which are going away are not in it, and what is beyond 1000 addresses is cut off.
func desiredEndpointsObject(service *corev1.Service, pods []*corev1.Pod) *corev1.Endpoints {
	object := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{
		Namespace: service.Namespace, Name: service.Name, Labels: maps.Clone(service.Labels), Annotations: map[string]string{},
	}}
	if object.Labels == nil {
		object.Labels = map[string]string{}
	}
	delete(object.Labels, corev1.IsHeadlessService)
	if service.Spec.ClusterIP == corev1.ClusterIPNone {
		object.Labels[corev1.IsHeadlessService] = ""
	}
	object.Labels[endpointsManagerLabel] = endpointsManager

	family := addressFamilies(service)[0]
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(podAddress(a, family), podAddress(b, family)) })
	count := 0
	for _, pod := range pods {
		address := podAddress(pod, family)
		if podFinished(pod) || address == "" || pod.DeletionTimestamp != nil && !service.Spec.PublishNotReadyAddresses {
			continue
		}
		ports := endpointPorts(service, pod)
		if len(service.Spec.Ports) > 0 && len(ports) == 0 {
			continue
		}
		if count++; count > maxEndpointsAddresses {
			object.Annotations[corev1.EndpointsOverCapacity] = "truncated"
			break
		}
		addToSubset(object, service, pod, address, ports)
	}
	slices.SortStableFunc(object.Subsets, func(a, b corev1.EndpointSubset) int {
		return slices.CompareFunc(a.Ports, b.Ports, func(a, b corev1.EndpointPort) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port))
		})
	})
	return object
}

func addToSubset(object *corev1.Endpoints, service *corev1.Service, pod *corev1.Pod, ip string, ports []discoveryv1.EndpointPort) {
	converted := make([]corev1.EndpointPort, 0, len(ports))
	for _, port := range ports {
		converted = append(converted, corev1.EndpointPort{Name: *port.Name, Port: *port.Port, Protocol: *port.Protocol, AppProtocol: port.AppProtocol})
	}
	i := slices.IndexFunc(object.Subsets, func(s corev1.EndpointSubset) bool {
		return slices.EqualFunc(s.Ports, converted, func(a, b corev1.EndpointPort) bool {
			return a.Name == b.Name && a.Port == b.Port && a.Protocol == b.Protocol && equalOrNil(a.AppProtocol, b.AppProtocol)
		})
	})
	if i < 0 {
		i = len(object.Subsets)
		object.Subsets = append(object.Subsets, corev1.EndpointSubset{Ports: converted})
	}
	address := corev1.EndpointAddress{
		IP: ip, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
	}
	if pod.Spec.NodeName != "" {
		address.NodeName = new(pod.Spec.NodeName)
	}
	if pod.Spec.Hostname != "" && pod.Spec.Subdomain == service.Name {
		address.Hostname = pod.Spec.Hostname
	}
	subset := &object.Subsets[i]
	if podReady(pod) || service.Spec.PublishNotReadyAddresses {
		subset.Addresses = append(subset.Addresses, address)
	} else {
		subset.NotReadyAddresses = append(subset.NotReadyAddresses, address)
	}
}
