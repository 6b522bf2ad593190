package resource

import (
	"fmt"
	"math"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validatePod checks in upstream's order, for that is the order of the causes
// in the answer.
func validatePod(p, old *corev1.Pod) field.ErrorList {
	errs := validatePodItself(p)
	if old != nil {
		return append(errs, validatePodChange(p, old)...)
	}
	if len(p.Spec.EphemeralContainers) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("ephemeralContainers"), "cannot be set on create"))
	}
	if p.Spec.NodeName != "" && len(p.Spec.SchedulingGates) > 0 {
		errs = append(errs, field.Forbidden(specPath.Child("nodeName"), "cannot be set until all schedulingGates have been cleared"))
	}
	return errs
}

// validatePodItself: what holds of a pod, whatever is done with it.
func validatePodItself(p *corev1.Pod) field.ErrorList {
	errs := validatePodSpec(&p.Spec, true, specPath)
	errs = append(errs, validateTokenOwner(&p.Spec)...)
	return append(errs, validateImages(&p.Spec)...)
}

// validatePodSpec serves pods and pod templates.
func validatePodSpec(s *corev1.PodSpec, isPod bool, at *field.Path) field.ErrorList {
	volumes, errs := validateVolumes(s.Volumes, at.Child("volumes"))
	for _, part := range []field.ErrorList{
		validateContainers(s, volumes, at.Child("containers")),
		validateInitContainers(s, volumes, at.Child("initContainers")),
		validateEphemeral(s, volumes, at.Child("ephemeralContainers")),
		validatePodResources(s, at.Child("resources")),
		validateNodePorts(s, isPod, at),
		supported(s.RestartPolicy, at.Child("restartPolicy"), corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever),
		supported(s.DNSPolicy, at.Child("dnsPolicy"), corev1.DNSClusterFirstWithHostNet, corev1.DNSClusterFirst, corev1.DNSDefault, corev1.DNSNone),
		validateLabels(s.NodeSelector, at.Child("nodeSelector")),
		validatePodSecurity(s, at.Child("securityContext")),
		validatePodAffinity(s.Affinity, at.Child("affinity")),
		validateDNS(s, at.Child("dnsConfig")),
		validateGates(s, at),
		validateSpread(s.TopologySpreadConstraints, at.Child("topologySpreadConstraints")),
		validateHostUsers(s, at),
		validateHostnameOverride(s, at.Child("hostnameOverride")),
		validateNames(s, at),
		validateTolerations(s.Tolerations, at.Child("tolerations")),
		validateHostAliases(s.HostAliases, at.Child("hostAliases")),
		validateClasses(s, at),
		validateFileVolumes(s, at),
	} {
		errs = append(errs, part...)
	}
	return errs
}

// validateNames: of the account, of the node, and the pod's own in the DNS.
func validateNames(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	name := func(child, value string, rule func(string) []string) {
		if value != "" {
			errs = append(errs, each(at.Child(child), value, rule(value))...)
		}
	}
	name("serviceAccountName", s.ServiceAccountName, validation.IsDNS1123Subdomain)
	name("nodeName", s.NodeName, validation.IsDNS1123Subdomain)
	if t := s.ActiveDeadlineSeconds; t != nil && (*t < 1 || *t > math.MaxInt32) {
		errs = append(errs, field.Invalid(at.Child("activeDeadlineSeconds"), *t, validation.InclusiveRangeError(1, math.MaxInt32)))
	}
	name("hostname", s.Hostname, validation.IsDNS1123Label)
	name("subdomain", s.Subdomain, validation.IsDNS1123Label)
	return errs
}

// validateClasses: of priority and runtime, and what comes with them.
func validateClasses(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if name := s.PriorityClassName; name != "" {
		errs = append(errs, each(at.Child("priorityClassName"), name, validation.IsDNS1123Subdomain(name))...)
	}
	if name := s.RuntimeClassName; name != nil {
		errs = append(errs, each(at.Child("runtimeClassName"), *name, validation.IsDNS1123Subdomain(*name))...)
	}
	if p := s.PreemptionPolicy; p != nil {
		errs = append(errs, supported(*p, at.Child("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
	}
	if s.Overhead != nil {
		errs = append(errs, validateResources(&corev1.ResourceRequirements{Limits: s.Overhead}, containerResource, at.Child("overhead"))...)
	}
	if s.OS == nil {
		return errs
	}
	switch s.OS.Name {
	case corev1.Linux, corev1.Windows:
	case "":
		errs = append(errs, field.Required(at.Child("os", "name"), ""))
	default:
		errs = append(errs, field.NotSupported(at.Child("os"), s.OS.Name, []corev1.OSName{corev1.Linux, corev1.Windows}))
	}
	return errs
}

// validateGates: of readiness and of scheduling.
func validateGates(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, gate := range s.ReadinessGates {
		errs = append(errs, each(at.Child("readinessGates").Index(i).Child("conditionType"), string(gate.ConditionType), validation.IsQualifiedName(string(gate.ConditionType)))...)
	}
	seen := sets.New[string]()
	for i, gate := range s.SchedulingGates {
		at := at.Child("schedulingGates").Index(i)
		errs = append(errs, each(at, gate.Name, validation.IsQualifiedName(gate.Name))...)
		if seen.Has(gate.Name) {
			errs = append(errs, field.Duplicate(at, gate.Name))
		}
		seen.Insert(gate.Name)
	}
	return errs
}

func validateHostnameOverride(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	if s.HostnameOverride == nil {
		return nil
	}
	var errs field.ErrorList
	if isTrue(s.SetHostnameAsFQDN) {
		errs = append(errs, field.Forbidden(at, "may not be specified when setHostnameAsFQDN is true"))
	}
	if s.HostNetwork {
		errs = append(errs, field.Forbidden(at, "may not be specified when hostNetwork is true"))
	}
	if len(*s.HostnameOverride) > 64 {
		errs = append(errs, field.TooLong(at, "", 64))
	}
	return append(errs, each(at, *s.HostnameOverride, validation.IsDNS1123Subdomain(*s.HostnameOverride))...)
}

// validateDNS keeps to what a libc's resolver reads of /etc/resolv.conf.
func validateDNS(s *corev1.PodSpec, at *field.Path) field.ErrorList {
	const maxServers, maxSearches, maxSearchLength = 3, 32, 2048
	c := s.DNSConfig
	switch {
	case s.DNSPolicy == corev1.DNSNone && c == nil:
		return field.ErrorList{field.Required(at, fmt.Sprintf("must provide `dnsConfig` when `dnsPolicy` is %s", corev1.DNSNone))}
	case s.DNSPolicy == corev1.DNSNone && len(c.Nameservers) == 0:
		return field.ErrorList{field.Required(at.Child("nameservers"), fmt.Sprintf("must provide at least one DNS nameserver when `dnsPolicy` is %s", corev1.DNSNone))}
	case c == nil:
		return nil
	}
	var errs field.ErrorList
	if len(c.Nameservers) > maxServers {
		errs = append(errs, field.Invalid(at.Child("nameservers"), c.Nameservers, fmt.Sprintf("must not have more than %v nameservers", maxServers)))
	}
	for i, server := range c.Nameservers {
		errs = append(errs, validation.IsValidIPForLegacyField(at.Child("nameservers").Index(i), server, true, nil)...)
	}
	if len(c.Searches) > maxSearches {
		errs = append(errs, field.Invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v search paths", maxSearches)))
	}
	if len(strings.Join(c.Searches, " ")) > maxSearchLength {
		errs = append(errs, field.Invalid(at.Child("searches"), c.Searches, fmt.Sprintf("must not have more than %v characters (including spaces) in the search list", maxSearchLength)))
	}
	for i, search := range c.Searches {
		if name := strings.TrimSuffix(search, "."); search != "." {
			errs = append(errs, each(at.Child("searches").Index(i), name, validation.IsDNS1123SubdomainWithUnderscore(name))...)
		}
	}
	for i, option := range c.Options {
		if option.Name == "" {
			errs = append(errs, field.Required(at.Child("options").Index(i), "must not be empty"))
		}
	}
	return errs
}

func validateHostAliases(list []corev1.HostAlias, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, a := range list {
		at := path.Index(i)
		errs = append(errs, validation.IsValidIPForLegacyField(at.Child("ip"), a.IP, true, nil)...)
		for j, name := range a.Hostnames {
			errs = append(errs, each(at.Child("hostnames").Index(j), name, validation.IsDNS1123Subdomain(name))...)
		}
	}
	return errs
}

// each tells everything that a rule of k8s.io/apimachinery says of a value.
func each[T any](at *field.Path, value T, msgs []string) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

func required(value string, at *field.Path) field.ErrorList {
	if value != "" {
		return nil
	}
	return field.ErrorList{field.Required(at, "")}
}

// supported: the value has to be one of the list, which is told in this order.
func supported[T ~string](value T, path *field.Path, list ...T) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return oneOf(&value, path, list...)
}

// oneOf is supported for a field that may be missing, yet not be empty.
func oneOf[T ~string](value *T, path *field.Path, list ...T) field.ErrorList {
	if value == nil || slices.Contains(list, *value) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, *value, list)}
}

func isTrue(b *bool) bool { return b != nil && *b }
