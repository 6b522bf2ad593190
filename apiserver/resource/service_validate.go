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
)

var (
	protocols     = []string{"SCTP", "TCP", "UDP"}
	serviceTypes  = []string{"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}
	affinities    = []string{"ClientIP", "None"}
	policies      = []string{"Cluster", "Local"}
	distributions = []string{"PreferClose", "PreferSameZone", "PreferSameNode"}
)

var specPath = field.NewPath("spec")

func validateService(s, old *corev1.Service) field.ErrorList {
	if errs := validateClusterIPChange(s, old); len(errs) > 0 {
		return errs
	}
	errs := validateServicePorts(s)
	errs = append(errs, validateServiceType(s)...)
	errs = append(errs, validateLabels(s.Spec.Selector, specPath.Child("selector"))...)
	errs = append(errs, validateAffinity(s)...)
	errs = append(errs, validateExternal(s)...)
	errs = append(errs, validateTraffic(s)...)
	return errs
}

// validateFamilies checks clusterIPs, ipFamilies and ipFamilyPolicy against
// each other and against a cluster that has IPv4 alone. What is wrong here is
// told alone, as upstream: the rest is only looked at when there is an address.
func validateFamilies(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	ipsPath := specPath.Child("clusterIPs")
	if s.Spec.Type == corev1.ServiceTypeExternalName {
		if len(s.Spec.ClusterIPs) > 0 || s.Spec.ClusterIP != "" {
			errs = append(errs, field.Forbidden(ipsPath, "may not be set for ExternalName services"))
		}
		return errs
	}
	if len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIP != s.Spec.ClusterIPs[0] {
		return append(errs, field.Invalid(ipsPath, s.Spec.ClusterIPs, "first value must match `clusterIP`"))
	}
	for i, ip := range s.Spec.ClusterIPs {
		if ip == corev1.ClusterIPNone {
			if len(s.Spec.ClusterIPs) > 1 {
				errs = append(errs, field.Invalid(ipsPath.Index(i), ip, "'None' must be the first and only value"))
			}
			continue
		}
		if wrong := validation.IsValidIP(ipsPath.Index(i), ip); len(wrong) > 0 {
			errs = append(errs, wrong...)
		} else if addr, _ := netip.ParseAddr(ip); addr.Is6() {
			errs = append(errs, field.Invalid(ipsPath.Index(i), s.Spec.ClusterIPs, "IPv6 is not configured on this cluster"))
		} else if i > 0 {
			errs = append(errs, field.Invalid(ipsPath, s.Spec.ClusterIPs, "may only hold up to 2 values, one of each IP family"))
		}
	}
	headless := len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
	if headless && len(s.Spec.Selector) == 0 {
		return errs
	}
	for i, family := range s.Spec.IPFamilies {
		at := specPath.Child("ipFamilies").Index(i)
		switch family {
		case corev1.IPv4Protocol:
			if slices.Contains(s.Spec.IPFamilies[:i], family) {
				errs = append(errs, field.Duplicate(at, family))
			}
		case corev1.IPv6Protocol:
			errs = append(errs, field.Invalid(at, family, "not configured on this cluster"))
		default:
			errs = append(errs, field.NotSupported(at, family, []string{"IPv4", "IPv6"}))
		}
	}
	if p := s.Spec.IPFamilyPolicy; p != nil {
		at := specPath.Child("ipFamilyPolicy")
		switch *p {
		case corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack:
		case corev1.IPFamilyPolicyRequireDualStack:
			errs = append(errs, field.Invalid(at, p, "this cluster is not configured for dual-stack services"))
		default:
			errs = append(errs, field.NotSupported(at, p, []string{"PreferDualStack", "RequireDualStack", "SingleStack"}))
		}
	}
	return errs
}

// validateClusterIPChange: clients remember the address, so it stays as long
// as the Service has one.
func validateClusterIPChange(s, old *corev1.Service) field.ErrorList {
	if old == nil || len(old.Spec.ClusterIPs) == 0 || !hasType(s) || s.Spec.Type == corev1.ServiceTypeExternalName || old.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	if len(s.Spec.ClusterIPs) == 0 || s.Spec.ClusterIPs[0] != old.Spec.ClusterIPs[0] {
		return field.ErrorList{field.Invalid(specPath.Child("clusterIPs").Index(0), s.Spec.ClusterIPs, "may not change once set")}
	}
	return nil
}

func hasType(s *corev1.Service) bool { return slices.Contains(serviceTypes, string(s.Spec.Type)) }

func validateServicePorts(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	path := specPath.Child("ports")
	headless := len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
	if len(s.Spec.Ports) == 0 && !headless && s.Spec.Type != corev1.ServiceTypeExternalName {
		errs = append(errs, field.Required(path, ""))
	}
	names := map[string]bool{}
	for i := range s.Spec.Ports {
		errs = append(errs, validateServicePort(&s.Spec.Ports[i], len(s.Spec.Ports) > 1, names, path.Index(i))...)
	}
	type key struct {
		protocol corev1.Protocol
		port     int32
	}
	seen, nodePorts := map[key]bool{}, map[key]bool{}
	for i, p := range s.Spec.Ports {
		if p.NodePort != 0 {
			if !mayHaveNodePorts(s) && s.Spec.Type == corev1.ServiceTypeClusterIP {
				errs = append(errs, field.Forbidden(path.Index(i).Child("nodePort"), "may not be used when `type` is 'ClusterIP'"))
			} else if nodePorts[key{p.Protocol, p.NodePort}] {
				errs = append(errs, field.Duplicate(path.Index(i).Child("nodePort"), p.NodePort))
			}
			nodePorts[key{p.Protocol, p.NodePort}] = true
		}
		if seen[key{p.Protocol, p.Port}] {
			errs = append(errs, field.Duplicate(path.Index(i), duplicatePort{Protocol: p.Protocol, Port: p.Port}))
		}
		seen[key{p.Protocol, p.Port}] = true
	}
	return errs
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
	headless := len(s.Spec.ClusterIPs) > 0 && s.Spec.ClusterIPs[0] == corev1.ClusterIPNone
	switch s.Spec.Type {
	case corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer:
		if headless {
			errs = append(errs, field.Invalid(specPath.Child("clusterIPs").Index(0), corev1.ClusterIPNone,
				fmt.Sprintf("may not be set to 'None' for %s services", s.Spec.Type)))
		}
	case corev1.ServiceTypeExternalName:
		name := strings.TrimSuffix(s.Spec.ExternalName, ".")
		if name == "" {
			errs = append(errs, field.Required(specPath.Child("externalName"), ""))
			break
		}
		for _, msg := range validation.IsDNS1123Subdomain(name) {
			errs = append(errs, field.Invalid(specPath.Child("externalName"), s.Spec.ExternalName, msg))
		}
	}
	if !hasType(s) {
		errs = append(errs, field.NotSupported(specPath.Child("type"), s.Spec.Type, serviceTypes))
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

func validateExternal(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range s.Spec.ExternalIPs {
		path := specPath.Child("externalIPs").Index(i)
		wrong := validation.IsValidIP(path, ip)
		if len(wrong) == 0 {
			wrong = nonSpecialIP(ip, path)
		}
		errs = append(errs, wrong...)
	}
	balancer := s.Spec.Type == corev1.ServiceTypeLoadBalancer
	ranges := specPath.Child("LoadBalancerSourceRanges")
	if len(s.Spec.LoadBalancerSourceRanges) > 0 && !balancer {
		errs = append(errs, field.Forbidden(ranges, "may only be used when `type` is 'LoadBalancer'"))
	} else {
		for i, cidr := range s.Spec.LoadBalancerSourceRanges {
			errs = append(errs, validation.IsValidCIDR(ranges.Index(i), strings.TrimSpace(cidr))...)
		}
	}
	if s.Spec.AllocateLoadBalancerNodePorts != nil && !balancer {
		errs = append(errs, field.Forbidden(specPath.Child("allocateLoadBalancerNodePorts"), "may only be used when `type` is 'LoadBalancer'"))
	}
	if s.Spec.LoadBalancerClass != nil && !balancer {
		errs = append(errs, field.Forbidden(specPath.Child("loadBalancerClass"), "may only be used when `type` is 'LoadBalancer'"))
	}
	return errs
}

// nonSpecialIP refuses addresses that cannot be an endpoint elsewhere.
func nonSpecialIP(ip string, path *field.Path) field.ErrorList {
	addr, err := netip.ParseAddr(ip)
	switch {
	case err != nil:
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
	if s.Spec.HealthCheckNodePort != 0 && !needsHealthPort(s) {
		errs = append(errs, field.Invalid(specPath.Child("healthCheckNodePort"), s.Spec.HealthCheckNodePort,
			"may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"))
	}
	if itp := s.Spec.InternalTrafficPolicy; itp != nil && !slices.Contains(policies, string(*itp)) {
		errs = append(errs, field.NotSupported(specPath.Child("internalTrafficPolicy"), *itp, policies))
	}
	if d := s.Spec.TrafficDistribution; d != nil && !slices.Contains(distributions, *d) {
		errs = append(errs, field.NotSupported(specPath.Child("trafficDistribution"), *d, distributions))
	}
	return errs
}
