package resource

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Service is one address for many pods. Its ClusterIP and nodePorts are not
// chosen here but by packages clusterip and nodeport, within the write.
var Service = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Service", Plural: "services", Singular: "service", ShortNames: []string{"svc"}, Categories: []string{"all"},
	Namespaced: true, Prefix: "/registry/services/specs/",
	MetaAgain:      metaTwice,
	New:            func() Object { return &corev1.Service{} },
	NewList:        func() runtime.Object { return &corev1.ServiceList{} },
	Default:        on(defaultService),
	Prepare:        onBoth(prepareService),
	Settle:         check(settleFamilies),
	Warn:           warn(warnService),
	Validate:       check(validateService),
	CheckPart:      map[string]func(obj, old Object) field.ErrorList{"status": check(validateServiceStatus)},
	NameRule:       apivalidation.NameIsDNSLabel,
	Fields:         selectable(serviceFields),
	Status:         true,
	Subresources:   []Subresource{proxyThrough("ServiceProxyOptions")},
	ReturnDeleted:  true,
	CreateOnUpdate: true,
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Type", "string"), column("Cluster-IP", "string"), column("External-IP", "string"),
		column("Port(s)", "string"), column("Age", "string"), wide("Selector", "string"),
	},
	Row: row(serviceRow),
}

func serviceFields(s *corev1.Service) fields.Set {
	return fields.Set{"spec.clusterIP": s.Spec.ClusterIP, "spec.type": string(s.Spec.Type)}
}

func defaultService(s *corev1.Service) {
	set(&s.Spec.SessionAffinity, corev1.ServiceAffinityNone)
	if s.Spec.SessionAffinity == corev1.ServiceAffinityNone {
		s.Spec.SessionAffinityConfig = nil
	}
	if s.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		if c := s.Spec.SessionAffinityConfig; c == nil || c.ClientIP == nil || c.ClientIP.TimeoutSeconds == nil {
			threeHours := corev1.DefaultClientIPServiceAffinitySeconds
			s.Spec.SessionAffinityConfig = &corev1.SessionAffinityConfig{ClientIP: &corev1.ClientIPConfig{TimeoutSeconds: &threeHours}}
		}
	}
	set(&s.Spec.Type, corev1.ServiceTypeClusterIP)
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		set(&p.Protocol, corev1.ProtocolTCP)
		if p.TargetPort == intstr.FromInt32(0) || p.TargetPort == intstr.FromString("") {
			p.TargetPort = intstr.FromInt32(p.Port)
		}
	}
	if externallyReachable(s) {
		set(&s.Spec.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyCluster)
	}
	switch s.Spec.Type {
	case corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		setPtr(&s.Spec.InternalTrafficPolicy, corev1.ServiceInternalTrafficPolicyCluster)
	}
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		setPtr(&s.Spec.AllocateLoadBalancerNodePorts, true)
		for i := range s.Status.LoadBalancer.Ingress {
			if in := &s.Status.LoadBalancer.Ingress[i]; in.IP != "" {
				setPtr(&in.IPMode, corev1.LoadBalancerIPModeVIP)
			}
		}
	}
}

// externallyReachable: traffic from outside the cluster may come to it.
func externallyReachable(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeNodePort || s.Spec.Type == corev1.ServiceTypeLoadBalancer ||
		s.Spec.Type == corev1.ServiceTypeClusterIP && len(s.Spec.ExternalIPs) > 0
}

func serviceRow(s *corev1.Service, now time.Time) []any {
	ip := "<none>"
	if len(s.Spec.ClusterIPs) > 0 {
		ip = s.Spec.ClusterIPs[0]
	}
	return []any{s.Name, string(s.Spec.Type), ip, externalIPs(s), ports(s.Spec.Ports), created(s, now), labelsText(s.Spec.Selector)}
}

func externalIPs(s *corev1.Service) string {
	switch s.Spec.Type {
	case "": // the row of a bookmark
		return "<unknown>"
	case corev1.ServiceTypeExternalName:
		return s.Spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		var ips []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			if in.IP != "" {
				ips = append(ips, in.IP)
			} else if in.Hostname != "" {
				ips = append(ips, in.Hostname)
			}
		}
		ips = append(ips, s.Spec.ExternalIPs...)
		if len(ips) == 0 {
			return "<pending>"
		}
		return strings.Join(ips, ",")
	default:
		return orNone(strings.Join(s.Spec.ExternalIPs, ","))
	}
}

// ports writes "80/TCP,53/UDP", and with node ports "80:30180/TCP".
func ports(list []corev1.ServicePort) string {
	var texts []string
	for _, p := range list {
		text := fmt.Sprintf("%d/%s", p.Port, p.Protocol)
		if p.NodePort > 0 {
			text = fmt.Sprintf("%d:%d/%s", p.Port, p.NodePort, p.Protocol)
		}
		texts = append(texts, text)
	}
	return orNone(strings.Join(texts, ","))
}
