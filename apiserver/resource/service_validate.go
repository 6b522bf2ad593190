package resource

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	utilnet "k8s.io/utils/net"
)

var (
	protocols     = []string{"SCTP", "TCP", "UDP"}
	serviceTypes  = []string{"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}
	affinities    = []string{"ClientIP", "None"}
	policies      = []string{"Cluster", "Local"}
	distributions = []string{"PreferClose", "PreferSameZone", "PreferSameNode"}
)

var specPath = field.NewPath("spec")

// strictIPs refuses addresses which two programs may read differently, as
// 010.0.0.1: some take it for 8.0.0.1.
const strictIPs = true

// validateService looks at the fields in upstream's order, so that of several
// mistakes the same one is told first.
func validateService(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	if old != nil {
		errs = append(errs, validateServiceChange(s, old)...)
	}
	errs = append(errs, validateServiceAnnotations(s)...)
	errs = append(errs, validateServiceType(s)...)
	errs = append(errs, validateServicePorts(s.Spec.Ports)...)
	errs = append(errs, validateLabels(s.Spec.Selector, specPath.Child("selector"))...)
	errs = append(errs, validateAffinity(s)...)
	errs = append(errs, validateAddresses(s, old)...)
	errs = append(errs, validateExternalIPs(s, old)...)
	if !slices.Contains(serviceTypes, string(s.Spec.Type)) {
		errs = append(errs, field.NotSupported(specPath.Child("type"), s.Spec.Type, serviceTypes))
	}
	errs = append(errs, validateDistinctPorts(s)...)
	errs = append(errs, validateBalancer(s, old)...)
	return append(errs, validateTraffic(s)...)
}

// validateServiceChange checks what has to stay.
func validateServiceChange(s, old *corev1.Service) field.ErrorList {
	errs := validateFamilyChange(s, old)
	if isBalancer(s) && isBalancer(old) && !equalPtr(s.Spec.LoadBalancerClass, old.Spec.LoadBalancerClass) {
		errs = append(errs, field.Invalid(specPath.Child("loadBalancerClass"), s.Spec.LoadBalancerClass, "may not change once set"))
	}
	errs = append(errs, validateBalancerClass(s)...) // upstream checks it twice on update
	if NeedsHealthPort(s) && NeedsHealthPort(old) && s.Spec.HealthCheckNodePort != old.Spec.HealthCheckNodePort {
		errs = append(errs, field.Forbidden(specPath.Child("healthCheckNodePort"), "field is immutable"))
	}
	return errs
}

// validateServiceStatus checks what a load balancer's controller has written.
func validateServiceStatus(s, old *corev1.Service) field.ErrorList {
	path := field.NewPath("status", "loadBalancer", "ingress")
	if !isBalancer(s) && len(s.Status.LoadBalancer.Ingress) > 0 {
		return field.ErrorList{field.Forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")}
	}
	var errs field.ErrorList
	var before []string
	for _, ingress := range old.Status.LoadBalancer.Ingress {
		before = append(before, ingress.IP)
	}
	for i, ingress := range s.Status.LoadBalancer.Ingress {
		at := path.Index(i)
		mode := at.Child("ipMode")
		if ingress.IP != "" {
			errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), ingress.IP, strictIPs, before)...)
		}
		switch {
		case ingress.IPMode == nil:
		case ingress.IP == "":
			errs = append(errs, field.Forbidden(mode, "may not be specified when `ip` is not set"))
		case *ingress.IPMode != corev1.LoadBalancerIPModeVIP && *ingress.IPMode != corev1.LoadBalancerIPModeProxy:
			errs = append(errs, field.NotSupported(mode, *ingress.IPMode, []corev1.LoadBalancerIPMode{corev1.LoadBalancerIPModeProxy, corev1.LoadBalancerIPModeVIP}))
		}
		if name := ingress.Hostname; name != "" {
			for _, wrong := range validation.IsDNS1123Subdomain(name) {
				errs = append(errs, field.Invalid(at.Child("hostname"), name, wrong))
			}
			if _, err := netip.ParseAddr(name); err == nil {
				errs = append(errs, field.Invalid(at.Child("hostname"), name, "must be a DNS name, not an IP address"))
			}
		}
	}
	return errs
}

// validateServiceAnnotations: the old name of an annotation may not contradict
// the new one.
func validateServiceAnnotations(s *corev1.Service) field.ErrorList {
	mode, ok := s.Annotations[corev1.AnnotationTopologyMode]
	if hints, both := s.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints]; ok && both && mode != hints {
		return field.ErrorList{field.Invalid(field.NewPath("metadata", "annotations").Key(corev1.AnnotationTopologyMode), mode,
			fmt.Sprintf("must match annotations[%s] when both are specified", corev1.DeprecatedAnnotationTopologyAwareHints))}
	}
	return nil
}

func validateServicePorts(ports []corev1.ServicePort) field.ErrorList {
	var errs field.ErrorList
	names := map[string]bool{}
	for i := range ports {
		errs = append(errs, validateServicePort(&ports[i], len(ports) > 1, names, specPath.Child("ports").Index(i))...)
	}
	return errs
}

// validateDistinctPorts: a port is known by protocol and number, a node port too.
func validateDistinctPorts(s *corev1.Service) field.ErrorList {
	var forbidden, nodes, twice field.ErrorList
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	seen, nodePorts := map[key]bool{}, map[key]bool{}
	for i, p := range s.Spec.Ports {
		path := specPath.Child("ports").Index(i)
		if p.NodePort != 0 && s.Spec.Type == corev1.ServiceTypeClusterIP {
			forbidden = append(forbidden, field.Forbidden(path.Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
		}
		if node := (key{p.Protocol, p.NodePort}); p.NodePort != 0 {
			if nodePorts[node] {
				nodes = append(nodes, field.Duplicate(path.Child("nodePort"), p.NodePort))
			}
			nodePorts[node] = true
		}
		if seen[key{p.Protocol, p.Port}] {
			twice = append(twice, field.Duplicate(path, duplicatePort{Protocol: p.Protocol, Port: p.Port}))
		}
		seen[key{p.Protocol, p.Port}] = true
	}
	return slices.Concat(forbidden, nodes, twice)
}

// duplicatePort is how upstream's message shows a port that appears twice.
type duplicatePort struct {
	Name        string
	Protocol    corev1.Protocol
	AppProtocol *string
	Port        int32
	TargetPort  intstr.IntOrString
	NodePort    int32
}

func validateServicePort(p *corev1.ServicePort, needsName bool, names map[string]bool, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch {
	case p.Name == "" && needsName:
		errs = append(errs, field.Required(path.Child("name"), ""))
	case p.Name != "":
		for _, msg := range validation.IsDNS1123Label(p.Name) {
			errs = append(errs, field.Invalid(path.Child("name"), p.Name, msg))
		}
		if names[p.Name] {
			errs = append(errs, field.Duplicate(path.Child("name"), p.Name))
		}
		names[p.Name] = true
	}
	for _, msg := range validation.IsValidPortNum(int(p.Port)) {
		errs = append(errs, field.Invalid(path.Child("port"), p.Port, msg))
	}
	if !slices.Contains(protocols, string(p.Protocol)) {
		errs = append(errs, field.NotSupported(path.Child("protocol"), p.Protocol, protocols))
	}
	errs = append(errs, validatePortNumOrName(p.TargetPort, path.Child("targetPort"))...)
	if p.AppProtocol != nil {
		for _, msg := range validation.IsQualifiedName(*p.AppProtocol) {
			errs = append(errs, field.Invalid(path.Child("appProtocol"), *p.AppProtocol, msg))
		}
	}
	return errs
}

func validatePortNumOrName(p intstr.IntOrString, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Type == intstr.Int {
		for _, msg := range validation.IsValidPortNum(p.IntValue()) {
			errs = append(errs, field.Invalid(path, p.IntValue(), msg))
		}
		return errs
	}
	for _, msg := range validation.IsValidPortName(p.StrVal) {
		errs = append(errs, field.Invalid(path, p.StrVal, msg))
	}
	return errs
}

func validateServiceType(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	if len(s.Spec.Ports) == 0 && !headless(s) && s.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(specPath.Child("ports"), ""))
	}
	if MayHaveNodePorts(s) && headless(s) {
		errs = append(errs, field.Invalid(ipsPath.Index(0), corev1.ClusterIPNone, fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type)))
	}
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		errs = append(errs, validateExternalName(s)...)
	}
	return errs
}

func validateExternalName(s *corev1.Service) field.ErrorList {
	const text = "may not be set for ExternalName services"
	var errs field.ErrorList
	if len(s.Spec.ClusterIPs) > 0 {
		errs = append(errs, field.Forbidden(ipsPath, text))
	}
	if len(s.Spec.IPFamilies) > 0 {
		errs = append(errs, field.Forbidden(familiesPath, text))
	}
	if s.Spec.IPFamilyPolicy != nil {
		errs = append(errs, field.Forbidden(policyPath, text))
	}
	path := specPath.Child("externalName")
	name := strings.TrimSuffix(s.Spec.ExternalName, ".")
	if name == "" {
		return append(errs, field.Required(path, ""))
	}
	for _, msg := range validation.IsDNS1123Subdomain(name) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

func validateAffinity(s *corev1.Service) field.ErrorList {
	path := specPath.Child("sessionAffinity")
	if !slices.Contains(affinities, string(s.Spec.SessionAffinity)) {
		return field.ErrorList{field.NotSupported(path, s.Spec.SessionAffinity, affinities)}
	}
	if s.Spec.SessionAffinity != corev1.ServiceAffinityClientIP {
		return nil
	}
	const day = 86400
	if t := *s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds; t <= 0 || t > day {
		return field.ErrorList{field.Invalid(specPath.Child("sessionAffinityConfig", "clientIP", "timeoutSeconds"), t,
			fmt.Sprintf("must be greater than 0 and less than %d", day))}
	}
	return nil
}

func validateExternalIPs(s, old *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	var before []string
	if old != nil {
		before = old.Spec.ExternalIPs
	}
	for i, ip := range s.Spec.ExternalIPs {
		path := specPath.Child("externalIPs").Index(i)
		wrong := validation.IsValidIPForLegacyField(path, ip, strictIPs, before)
		if len(wrong) == 0 {
			wrong = nonSpecialIP(ip, path)
		}
		errs = append(errs, wrong...)
	}
	return errs
}

// validateBalancer checks what only a load balancer has.
func validateBalancer(s, old *corev1.Service) field.ErrorList {
	const text = "may only be used when `type` is 'LoadBalancer'"
	errs := validateSourceRanges(s, old, text)
	if s.Spec.AllocateLoadBalancerNodePorts != nil && !isBalancer(s) {
		errs = append(errs, field.Forbidden(specPath.Child("allocateLoadBalancerNodePorts"), text))
	}
	return append(errs, validateBalancerClass(s)...)
}

// validateSourceRanges: before the field there was an annotation.
func validateSourceRanges(s, old *corev1.Service, onlyBalancer string) field.ErrorList {
	path := specPath.Child("LoadBalancerSourceRanges")
	ranges, at := s.Spec.LoadBalancerSourceRanges, path.Index
	var before []string
	if len(ranges) == 0 {
		text, ok := s.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey]
		if !ok {
			return nil
		}
		path = field.NewPath("metadata", "annotations").Key(corev1.AnnotationLoadBalancerSourceRangesKey)
		at = func(int) *field.Path { return path }
		if unchanged := old != nil && old.Annotations[corev1.AnnotationLoadBalancerSourceRangesKey] == text; !unchanged && strings.TrimSpace(text) != "" {
			ranges = strings.Split(text, ",")
		}
	} else if old != nil {
		for _, cidr := range old.Spec.LoadBalancerSourceRanges {
			before = append(before, strings.TrimSpace(cidr))
		}
	}
	var errs field.ErrorList
	if !isBalancer(s) {
		errs = append(errs, field.Forbidden(path, onlyBalancer))
	}
	for i, cidr := range ranges {
		errs = append(errs, validation.IsValidCIDRForLegacyField(at(i), strings.TrimSpace(cidr), strictIPs, before)...)
	}
	return errs
}

func validateBalancerClass(s *corev1.Service) field.ErrorList {
	class, path := s.Spec.LoadBalancerClass, specPath.Child("loadBalancerClass")
	switch {
	case class == nil:
		return nil
	case !isBalancer(s):
		return field.ErrorList{field.Forbidden(path, "may only be used when `type` is 'LoadBalancer'")}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(*class) {
		errs = append(errs, field.Invalid(path, *class, msg))
	}
	return errs
}

// nonSpecialIP refuses addresses that cannot be an endpoint elsewhere. It reads
// 010.0.0.1, too: that this is not written so is told by other rules.
func nonSpecialIP(ip string, path *field.Path) field.ErrorList {
	addr := utilnet.ParseIPSloppy(ip)
	switch {
	case addr == nil:
		return field.ErrorList{field.Invalid(path, ip, "must be a valid IP address")}
	case addr.IsUnspecified():
		return field.ErrorList{field.Invalid(path, ip, fmt.Sprintf("may not be unspecified (%v)", ip))}
	case addr.IsLoopback():
		return field.ErrorList{field.Invalid(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)")}
	case addr.IsLinkLocalUnicast():
		return field.ErrorList{field.Invalid(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")}
	case addr.IsLinkLocalMulticast():
		return field.ErrorList{field.Invalid(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")}
	}
	return nil
}

func validateTraffic(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("externalTrafficPolicy")
	switch etp := string(s.Spec.ExternalTrafficPolicy); {
	case !externallyReachable(s):
		if etp != "" {
			errs = append(errs, field.Invalid(path, s.Spec.ExternalTrafficPolicy, "may only be set for externally-accessible services"))
		}
	case etp == "":
		errs = append(errs, field.Required(path, ""))
	case !slices.Contains(policies, etp):
		errs = append(errs, field.NotSupported(path, s.Spec.ExternalTrafficPolicy, policies))
	}
	switch port, at := s.Spec.HealthCheckNodePort, specPath.Child("healthCheckNodePort"); {
	case !NeedsHealthPort(s):
		if port != 0 {
			errs = append(errs, field.Invalid(at, port, "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
		}
	default:
		for _, msg := range validation.IsValidPortNum(int(port)) {
			errs = append(errs, field.Invalid(at, port, msg))
		}
	}
	if itp := s.Spec.InternalTrafficPolicy; itp != nil && !slices.Contains(policies, string(*itp)) {
		errs = append(errs, field.NotSupported(specPath.Child("internalTrafficPolicy"), *itp, policies))
	}
	if d := s.Spec.TrafficDistribution; d != nil && !slices.Contains(distributions, *d) {
		errs = append(errs, field.NotSupported(specPath.Child("trafficDistribution"), *d, distributions))
	}
	return errs
}
