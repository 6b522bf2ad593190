package resource

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// NetworkPolicy says which traffic to and from pods is wanted. The API keeps
// it; a pod network that knows it enforces it.
var NetworkPolicy = &Kind{
	GroupVersion: networkingv1.SchemeGroupVersion,
	Kind:         "NetworkPolicy", Plural: "networkpolicies", Singular: "networkpolicy", ShortNames: []string{"netpol"},
	Namespaced: true, Prefix: "/registry/networkpolicies/",
	New:        func() Object { return &networkingv1.NetworkPolicy{} },
	NewList:    func() runtime.Object { return &networkingv1.NetworkPolicyList{} },
	Default:    on(defaultNetworkPolicy),
	Validate:   check(validateNetworkPolicy),
	Generation: true,
	Columns:    []metav1.TableColumnDefinition{column("Name", "string"), column("Pod-Selector", "string"), column("Age", "string")},
	Row: row(func(p *networkingv1.NetworkPolicy, now time.Time) []any {
		return []any{p.Name, selectorText(&p.Spec.PodSelector), created(p, now)}
	}),
}

func defaultNetworkPolicy(p *networkingv1.NetworkPolicy) {
	for i := range p.Spec.Ingress {
		defaultPolicyPorts(p.Spec.Ingress[i].Ports)
	}
	for i := range p.Spec.Egress {
		defaultPolicyPorts(p.Spec.Egress[i].Ports)
	}
	if len(p.Spec.PolicyTypes) > 0 {
		return
	}
	p.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(p.Spec.Egress) > 0 {
		p.Spec.PolicyTypes = append(p.Spec.PolicyTypes, networkingv1.PolicyTypeEgress)
	}
}

func defaultPolicyPorts(ports []networkingv1.NetworkPolicyPort) {
	for i := range ports {
		setPtr(&ports[i].Protocol, corev1.ProtocolTCP)
	}
}

func validateNetworkPolicy(p, _ *networkingv1.NetworkPolicy) field.ErrorList {
	errs := metav1validation.ValidateLabelSelector(&p.Spec.PodSelector, metav1validation.LabelSelectorValidationOptions{}, specPath.Child("podSelector"))
	for i, rule := range p.Spec.Ingress {
		at := specPath.Child("ingress").Index(i)
		errs = append(errs, validatePolicyRule(rule.Ports, rule.From, at, at.Child("from"))...)
	}
	for i, rule := range p.Spec.Egress {
		at := specPath.Child("egress").Index(i)
		errs = append(errs, validatePolicyRule(rule.Ports, rule.To, at, at.Child("to"))...)
	}
	if len(p.Spec.PolicyTypes) > 2 {
		return append(errs, field.Invalid(specPath.Child("policyTypes"), &p.Spec.PolicyTypes, "may not specify more than two policyTypes"))
	}
	for i, kind := range p.Spec.PolicyTypes {
		errs = append(errs, supported(kind, specPath.Child("policyTypes").Index(i), networkingv1.PolicyTypeEgress, networkingv1.PolicyTypeIngress)...)
	}
	return errs
}

func validatePolicyRule(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer, at, peersAt *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, p := range ports {
		errs = append(errs, validatePolicyPort(&p, at.Child("ports").Index(i))...)
	}
	for i, peer := range peers {
		errs = append(errs, validatePolicyPeer(&peer, peersAt.Index(i))...)
	}
	return errs
}

func validatePolicyPort(p *networkingv1.NetworkPolicyPort, at *field.Path) field.ErrorList {
	errs := supported(*p.Protocol, at.Child("protocol"), corev1.ProtocolSCTP, corev1.ProtocolTCP, corev1.ProtocolUDP)
	if p.Port == nil {
		if p.EndPort != nil {
			errs = append(errs, field.Required(at.Child("port"), "must be specified when `endPort` is specified"))
		}
		return errs
	}
	if p.Port.Type == intstr.String {
		if p.EndPort != nil {
			errs = append(errs, field.Required(at.Child("port"), "must be specified as a number when `endPort` is specified"))
		}
		for _, msg := range validation.IsValidPortName(p.Port.StrVal) {
			errs = append(errs, field.Invalid(at.Child("port"), p.Port.StrVal, msg))
		}
		return errs
	}
	for _, msg := range validation.IsValidPortNum(p.Port.IntValue()) {
		errs = append(errs, field.Invalid(at.Child("port"), p.Port.IntVal, msg))
	}
	if p.EndPort != nil && *p.EndPort < p.Port.IntVal {
		errs = append(errs, field.Invalid(at.Child("endPort"), p.Port.IntVal, "must be greater than or equal to `port`"))
	}
	return errs
}

func validatePolicyPeer(peer *networkingv1.NetworkPolicyPeer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	given := 0
	for name, selector := range map[string]*metav1.LabelSelector{"podSelector": peer.PodSelector, "namespaceSelector": peer.NamespaceSelector} {
		if selector != nil {
			given++
			errs = append(errs, metav1validation.ValidateLabelSelector(selector, metav1validation.LabelSelectorValidationOptions{}, at.Child(name))...)
		}
	}
	switch {
	case peer.IPBlock != nil && given > 0:
		errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
	case peer.IPBlock == nil && given == 0:
		errs = append(errs, field.Required(at, "must specify a peer"))
	case peer.IPBlock != nil:
		errs = append(errs, validateIPBlock(peer.IPBlock, at.Child("ipBlock"))...)
	}
	return errs
}

func validateIPBlock(block *networkingv1.IPBlock, at *field.Path) field.ErrorList {
	if block.CIDR == "" {
		return field.ErrorList{field.Required(at.Child("cidr"), "")}
	}
	const text = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
	cidr, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return field.ErrorList{field.Invalid(at.Child("cidr"), block.CIDR, text)}
	}
	var errs field.ErrorList
	for i, s := range block.Except {
		except, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(at.Child("except").Index(i), s, text))
		case !cidr.Contains(except.Addr()) || except.Bits() <= cidr.Bits():
			errs = append(errs, field.Invalid(at.Child("except").Index(i), s, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}
