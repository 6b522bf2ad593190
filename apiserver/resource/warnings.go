package resource

import (
	"fmt"
	"sort"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
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

func warnPod(p *corev1.Pod) []string { return warnPodSpec(&p.Spec, field.NewPath("spec")) }

// The workloads warn of their template.

func warnDeployment(d *appsv1.Deployment) []string   { return warnTemplate(&d.Spec.Template) }
func warnReplicaSet(r *appsv1.ReplicaSet) []string   { return warnTemplate(&r.Spec.Template) }
func warnDaemonSet(d *appsv1.DaemonSet) []string     { return warnTemplate(&d.Spec.Template) }
func warnStatefulSet(s *appsv1.StatefulSet) []string { return warnTemplate(&s.Spec.Template) }
func warnJob(j *batchv1.Job) []string                { return warnTemplate(&j.Spec.Template) }

func warnTemplate(t *corev1.PodTemplateSpec) []string {
	return warnPodSpec(&t.Spec, field.NewPath("spec", "template", "spec"))
}

// oldNodeLabels are names of before 1.14 and what took their place.
var oldNodeLabels = map[string]string{
	"beta.kubernetes.io/arch":                  `deprecated since v1.14; use "kubernetes.io/arch" instead`,
	"beta.kubernetes.io/os":                    `deprecated since v1.14; use "kubernetes.io/os" instead`,
	"failure-domain.beta.kubernetes.io/region": `deprecated since v1.17; use "topology.kubernetes.io/region" instead`,
	"failure-domain.beta.kubernetes.io/zone":   `deprecated since v1.17; use "topology.kubernetes.io/zone" instead`,
	"beta.kubernetes.io/instance-type":         `deprecated since v1.17; use "node.kubernetes.io/instance-type" instead`,
}

func warnPodSpec(spec *corev1.PodSpec, path *field.Path) []string {
	var list []string
	for key := range spec.NodeSelector {
		if text, ok := oldNodeLabels[key]; ok {
			list = append(list, fmt.Sprintf("%s: %s", path.Child("nodeSelector").Key(key), text))
		}
	}
	sort.Strings(list)
	for i, ref := range spec.ImagePullSecrets {
		if ref.Name == "" {
			list = append(list, fmt.Sprintf("%s: invalid empty name %q", path.Child("imagePullSecrets").Index(i).Child("name"), ref.Name))
		}
	}
	for i := range spec.InitContainers {
		list = append(list, warnEnv(&spec.InitContainers[i], path.Child("initContainers").Index(i))...)
	}
	for i := range spec.Containers {
		list = append(list, warnEnv(&spec.Containers[i], path.Child("containers").Index(i))...)
	}
	return list
}

// warnEnv: of two variables with one name the later one holds, and a patch that
// merges by name knows one only.
func warnEnv(c *corev1.Container, path *field.Path) []string {
	var list []string
	seen := map[string]bool{}
	for i, e := range c.Env {
		if seen[e.Name] {
			list = append(list, fmt.Sprintf("%s: hides previous definition of %q, which may be dropped when using apply", path.Child("env").Index(i), e.Name))
		}
		seen[e.Name] = true
	}
	return list
}
