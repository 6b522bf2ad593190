package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Warnings tell of what is accepted and yet surprising. They never refuse
// anything; the texts are upstream's, for people search for them.

const endpointsDeprecated = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"

func warnEndpointSlice(s *discoveryv1.EndpointSlice) []string {
	if s.AddressType == discoveryv1.AddressTypeFQDN {
		return []string{"spec.addressType: FQDN endpoints are deprecated"}
	}
	var list []string
	for i, e := range s.Endpoints {
		list = append(list, warnIPs(e.Addresses, field.NewPath("endpoints").Index(i).Child("addresses"))...)
	}
	return list
}

func warnEndpoints(e *corev1.Endpoints) []string {
	var list []string
	for i, subset := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		for j, a := range subset.Addresses {
			list = append(list, validation.GetWarningsForIP(at.Child("addresses").Index(j).Child("ip"), a.IP)...)
		}
		for j, a := range subset.NotReadyAddresses {
			list = append(list, validation.GetWarningsForIP(at.Child("notReadyAddresses").Index(j).Child("ip"), a.IP)...)
		}
	}
	return list
}

func warnIngress(i *networkingv1.Ingress) []string {
	if _, ok := i.Annotations[ingressClassAnnotation]; ok && i.Spec.IngressClassName == nil {
		return []string{fmt.Sprintf("annotation %q is deprecated, please use 'spec.ingressClassName' instead", ingressClassAnnotation)}
	}
	return nil
}

func warnService(s *corev1.Service) []string {
	var list []string
	if _, ok := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok {
		list = append(list, fmt.Sprintf("annotation %s is deprecated, please use %s instead", corev1.DeprecatedAnnotationTopologyAwareHints, corev1.AnnotationTopologyMode))
	}
	if NeedsClusterIP(s) {
		list = append(list, warnIPs(s.Spec.ClusterIPs, ipsPath)...)
	}
	none := s.Spec.Type == corev1.ServiceTypeClusterIP && s.Spec.ClusterIP == corev1.ClusterIPNone
	external := len(s.Spec.ExternalIPs) > 0
	name := s.Spec.Type == corev1.ServiceTypeExternalName
	if none {
		list = append(list, warnHeadless(s)...)
	}
	list = append(list, warnIPs(s.Spec.ExternalIPs, specPath.Child("externalIPs"))...)
	if external && !none && !name {
		list = append(list, "spec.externalIPs is deprecated and may no longer be implemented in some clusters")
	}
	if s.Spec.LoadBalancerIP != "" {
		list = append(list, validation.GetWarningsForIP(specPath.Child("loadBalancerIP"), s.Spec.LoadBalancerIP)...)
	}
	for i, cidr := range s.Spec.LoadBalancerSourceRanges {
		list = append(list, validation.GetWarningsForCIDR(specPath.Child("loadBalancerSourceRanges").Index(i), cidr)...)
	}
	switch {
	case name && external:
		list = append(list, `spec.externalIPs is ignored when spec.type is "ExternalName"`)
	case !name && s.Spec.ExternalName != "":
		list = append(list, `spec.externalName is ignored when spec.type is not "ExternalName"`)
	}
	if d := s.Spec.TrafficDistribution; d != nil && *d == corev1.ServiceTrafficDistributionPreferClose {
		list = append(list, `spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"`)
	}
	return list
}

func warnHeadless(s *corev1.Service) []string {
	var list []string
	if s.Spec.LoadBalancerIP != "" {
		list = append(list, "spec.loadBalancerIP is ignored for headless services")
	}
	if len(s.Spec.ExternalIPs) > 0 {
		list = append(list, "spec.externalIPs is ignored for headless services")
	}
	if s.Spec.SessionAffinity != corev1.ServiceAffinityNone {
		list = append(list, "spec.SessionAffinity is ignored for headless services")
	}
	return list
}

func warnIPs(ips []string, at *field.Path) []string {
	var list []string
	for i, ip := range ips {
		list = append(list, validation.GetWarningsForIP(at.Index(i), ip)...)
	}
	return list
}
