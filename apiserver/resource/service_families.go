package resource

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var (
	ipsPath      = field.NewPath("spec", "clusterIPs")
	familiesPath = field.NewPath("spec", "ipFamilies")
	policyPath   = field.NewPath("spec", "ipFamilyPolicy")

	ipFamilies     = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	familyPolicies = []corev1.IPFamilyPolicy{corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack, corev1.IPFamilyPolicySingleStack}
)

// settleFamilies completes ipFamilyPolicy and ipFamilies, and checks them and
// clusterIPs against each other and against a cluster that has IPv4 alone. What
// is wrong here is told alone, as upstream: the rest is only looked at when it
// is clear which addresses the Service shall have.
func settleFamilies(s, old *corev1.Service) field.ErrorList {
	if !hasAddress(s) {
		return nil
	}
	defaultFamilyPolicy(s, old)
	if errs := validateAddresses(s, old); len(errs) > 0 {
		return errs
	}
	errs := settleDowngrade(s, old)
	errs = append(errs, validateSingleStack(s)...)
	errs = append(errs, inferFamilies(s)...)
	if len(errs) > 0 {
		return errs
	}
	if headless(s) && len(s.Spec.Selector) == 0 {
		completeFamilies(s)
		return nil
	}
	if familyPolicy(s) == corev1.IPFamilyPolicyRequireDualStack {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "this cluster is not configured for dual-stack services"))
	}
	for i, family := range s.Spec.IPFamilies {
		if family != corev1.IPv4Protocol {
			errs = append(errs, field.Invalid(familiesPath.Index(i), family, "not configured on this cluster"))
		}
	}
	if len(errs) == 0 && len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return errs
}

func familyPolicy(s *corev1.Service) corev1.IPFamilyPolicy {
	if s.Spec.IPFamilyPolicy == nil {
		return ""
	}
	return *s.Spec.IPFamilyPolicy
}

// defaultFamilyPolicy: an update without a policy keeps the one there is. A
// headless Service without a selector has whatever addresses somebody writes
// into its endpoints, so both families.
func defaultFamilyPolicy(s, old *corev1.Service) {
	switch {
	case s.Spec.IPFamilyPolicy != nil:
	case old != nil && old.Spec.IPFamilyPolicy != nil:
		s.Spec.IPFamilyPolicy = old.Spec.IPFamilyPolicy
	case s.Spec.ClusterIP == corev1.ClusterIPNone && len(s.Spec.Selector) == 0:
		setPtr(&s.Spec.IPFamilyPolicy, corev1.IPFamilyPolicyRequireDualStack)
	default:
		setPtr(&s.Spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack)
	}
}

// validateAddresses checks the fields by themselves, without asking what the
// cluster can do.
func validateAddresses(s, old *corev1.Service) field.ErrorList {
	if !hasAddress(s) {
		return nil
	}
	var errs field.ErrorList
	ips := s.Spec.ClusterIPs
	switch {
	case s.Spec.ClusterIP == "" && len(ips) > 0:
		errs = append(errs, field.Invalid(ipsPath, ips, "must be empty when `clusterIP` is not specified"))
	case s.Spec.ClusterIP != "" && len(ips) == 0:
		errs = append(errs, field.Required(ipsPath, ""))
	case s.Spec.ClusterIP != "" && ips[0] != s.Spec.ClusterIP:
		errs = append(errs, field.Invalid(ipsPath, ips, "first value must match `clusterIP`"))
	}
	for i, family := range s.Spec.IPFamilies {
		if !slices.Contains(ipFamilies, family) {
			errs = append(errs, field.NotSupported(familiesPath.Index(i), family, ipFamilies))
		}
		if slices.Contains(s.Spec.IPFamilies[:i], family) {
			errs = append(errs, field.Duplicate(familiesPath.Index(i), family))
		}
	}
	if p := s.Spec.IPFamilyPolicy; p != nil && !slices.Contains(familyPolicies, *p) {
		errs = append(errs, field.NotSupported(policyPath, *p, familyPolicies))
	}
	return append(errs, validateClusterIPs(s, old)...)
}

func validateClusterIPs(s, old *corev1.Service) field.ErrorList {
	ips := s.Spec.ClusterIPs
	var before []string
	if old != nil {
		before = old.Spec.ClusterIPs
	}
	var errs field.ErrorList
	for i, ip := range ips {
		switch {
		case i == 0 && ip == corev1.ClusterIPNone && len(ips) > 1:
			errs = append(errs, field.Invalid(ipsPath, ips, "'None' must be the first and only value"))
		case i == 0 && ip == corev1.ClusterIPNone:
		default:
			errs = append(errs, validation.IsValidIPForLegacyField(ipsPath.Index(i), ip, strictIPs, before)...)
		}
	}
	bad := len(errs) > 0
	if len(ips) > 2 {
		errs = append(errs, field.Invalid(ipsPath, ips, "may only hold up to 2 values"))
	}
	if bad { // the following speaks of the families of addresses
		return errs
	}
	if len(ips) > 1 && !bothFamilies(ips) {
		errs = append(errs, field.Invalid(ipsPath, ips, "may specify no more than one IP for each IP family"))
	}
	if headless(s) {
		return errs
	}
	for i, ip := range ips[:min(len(ips), len(s.Spec.IPFamilies))] {
		if want := s.Spec.IPFamilies[i]; want != familyOf(ip) && slices.Contains(ipFamilies, want) {
			errs = append(errs, field.Invalid(ipsPath.Index(i), ip, fmt.Sprintf("expected an %s value as indicated by `ipFamilies[%d]`", want, i)))
		}
	}
	return errs
}

func familyOf(ip string) corev1.IPFamily {
	if addr, err := netip.ParseAddr(ip); err == nil && addr.Is6() {
		return corev1.IPv6Protocol
	}
	return corev1.IPv4Protocol
}

// bothFamilies: there is an address of either family.
func bothFamilies(ips []string) bool {
	return slices.ContainsFunc(ips, func(ip string) bool { return familyOf(ip) != familyOf(ips[0]) })
}

// settleDowngrade: of two families one remains only where the client says so,
// with the policy. The Service's main address never changes.
func settleDowngrade(s, old *corev1.Service) field.ErrorList {
	if old == nil {
		return nil
	}
	ips, families := s.Spec.ClusterIPs, s.Spec.IPFamilies
	if familyPolicy(s) == corev1.IPFamilyPolicySingleStack {
		if len(ips) > 1 && slices.Equal(ips, old.Spec.ClusterIPs) {
			s.Spec.ClusterIPs = ips[:1]
		}
		if len(families) > 1 && slices.Equal(families, old.Spec.IPFamilies) {
			s.Spec.IPFamilies = families[:1]
		}
		return nil
	}
	var errs field.ErrorList
	if len(ips) > 0 && len(ips) < len(old.Spec.ClusterIPs) {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary cluster IP"))
	}
	if len(families) > 0 && len(families) < len(old.Spec.IPFamilies) {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "must be 'SingleStack' to release the secondary IP family"))
	}
	return errs
}

func validateSingleStack(s *corev1.Service) field.ErrorList {
	if familyPolicy(s) != corev1.IPFamilyPolicySingleStack {
		return nil
	}
	var errs field.ErrorList
	const two = "must be 'RequireDualStack' or 'PreferDualStack' when multiple "
	if len(s.Spec.ClusterIPs) == 2 {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, two+"cluster IPs are specified"))
	}
	if len(s.Spec.IPFamilies) == 2 {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, two+"IP families are specified"))
	}
	return errs
}

// inferFamilies: who names an address has said its family.
func inferFamilies(s *corev1.Service) field.ErrorList {
	var errs field.ErrorList
	for i, ip := range s.Spec.ClusterIPs {
		if ip == corev1.ClusterIPNone || i < len(s.Spec.IPFamilies) {
			continue
		}
		if family := familyOf(ip); family == corev1.IPv4Protocol {
			s.Spec.IPFamilies = append(s.Spec.IPFamilies, family)
		} else {
			errs = append(errs, field.Invalid(ipsPath.Index(i), s.Spec.ClusterIPs, fmt.Sprintf("%s is not configured on this cluster", family)))
		}
	}
	return errs
}

// completeFamilies gives a headless Service without a selector the families of
// its policy: they may be more than the cluster has.
func completeFamilies(s *corev1.Service) {
	if len(s.Spec.IPFamilies) == 0 {
		s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if len(s.Spec.IPFamilies) > 1 || familyPolicy(s) == corev1.IPFamilyPolicySingleStack {
		return
	}
	other := corev1.IPv6Protocol
	if s.Spec.IPFamilies[0] == corev1.IPv6Protocol {
		other = corev1.IPv4Protocol
	}
	s.Spec.IPFamilies = append(s.Spec.IPFamilies, other)
}

// validateFamilyChange: clients remember the address, so it stays as long as
// the Service has one.
func validateFamilyChange(s, old *corev1.Service) field.ErrorList {
	if old == nil || !hasAddress(s) || !hasAddress(old) || headless(s) && headless(old) {
		return nil
	}
	errs := validateAddressChange(s, old)
	if headless(s) != headless(old) {
		return errs
	}
	var first, firstOld corev1.IPFamily
	if len(s.Spec.IPFamilies) > 0 && len(old.Spec.IPFamilies) > 0 {
		first, firstOld = s.Spec.IPFamilies[0], old.Spec.IPFamilies[0]
	}
	if first != firstOld {
		errs = append(errs, field.Invalid(familiesPath.Index(0), s.Spec.IPFamilies, "may not change once set"))
	}
	return errs
}

func validateAddressChange(s, old *corev1.Service) field.ErrorList {
	ips, before := s.Spec.ClusterIPs, old.Spec.ClusterIPs
	var errs field.ErrorList
	if len(ips) == len(before) {
		for i := range ips {
			if ips[i] != before[i] {
				errs = append(errs, field.Invalid(ipsPath.Index(i), ips, "may not change once set"))
			}
		}
		return errs
	}
	switch {
	case len(ips) == 0:
		errs = append(errs, field.Invalid(ipsPath.Index(0), ips, "primary clusterIP can not be unset"))
	case len(before) > 0 && ips[0] != before[0]:
		errs = append(errs, field.Invalid(ipsPath.Index(0), ips, "may not change once set"))
	}
	if len(before) > len(ips) && len(ips) == 1 && familyPolicy(s) != corev1.IPFamilyPolicySingleStack {
		errs = append(errs, field.Invalid(policyPath, s.Spec.IPFamilyPolicy, "must be set to 'SingleStack' when releasing the secondary clusterIP"))
	}
	return errs
}
