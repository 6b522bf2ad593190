package resource

import (
	"net/netip"
	"slices"
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
	Warn:       warn(warnNetworkPolicy),
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
		if kinds := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}; !slices.Contains(kinds, kind) {
			errs = append(errs, field.NotSupported(specPath.Child("policyTypes").Index(i), kind, kinds))
		}
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
	var errs field.ErrorList
	if known := []corev1.Protocol{corev1.ProtocolTCP, corev1.ProtocolUDP, corev1.ProtocolSCTP}; !slices.Contains(known, *p.Protocol) {
		errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, known))
	}
	end := at.Child("endPort")
	switch {
	case p.Port == nil:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is not specified"))
		}
		return errs
	case p.Port.Type == intstr.String:
		if p.EndPort != nil {
			errs = append(errs, field.Invalid(end, *p.EndPort, "may not be specified when `port` is non-numeric"))
		}
		return append(errs, invalidTexts(validation.IsValidPortName(p.Port.StrVal), p.Port.StrVal, at.Child("port"))...)
	}
	for _, msg := range validation.IsValidPortNum(p.Port.IntValue()) {
		errs = append(errs, field.Invalid(at.Child("port"), p.Port.IntVal, msg))
	}
	if p.EndPort == nil {
		return errs
	}
	if *p.EndPort < p.Port.IntVal {
		errs = append(errs, field.Invalid(end, p.Port.IntVal, "must be greater than or equal to `port`"))
	}
	for _, msg := range validation.IsValidPortNum(int(*p.EndPort)) {
		errs = append(errs, field.Invalid(end, *p.EndPort, msg))
	}
	return errs
}

func validatePolicyPeer(peer *networkingv1.NetworkPolicyPeer, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if peer.PodSelector == nil && peer.NamespaceSelector == nil && peer.IPBlock == nil {
		return field.ErrorList{field.Required(at, "must specify a peer")}
	}
	options := metav1validation.LabelSelectorValidationOptions{}
	errs = append(errs, metav1validation.ValidateLabelSelector(peer.PodSelector, options, at.Child("podSelector"))...)
	errs = append(errs, metav1validation.ValidateLabelSelector(peer.NamespaceSelector, options, at.Child("namespaceSelector"))...)
	if peer.IPBlock == nil {
		return errs
	}
	errs = append(errs, validateIPBlock(peer.IPBlock, at.Child("ipBlock"))...)
	if peer.PodSelector != nil || peer.NamespaceSelector != nil {
		errs = append(errs, field.Forbidden(at, "may not specify both ipBlock and another peer"))
	}
	return errs
}

func validateIPBlock(block *networkingv1.IPBlock, at *field.Path) field.ErrorList {
	if block.CIDR == "" {
		return field.ErrorList{field.Required(at.Child("cidr"), "")}
	}
	errs := validation.IsValidCIDRForLegacyField(at.Child("cidr"), block.CIDR, strictIPs, nil)
	cidr, err := netip.ParsePrefix(block.CIDR)
	if err != nil {
		return errs
	}
	for i, s := range block.Except {
		path := at.Child("except").Index(i)
		errs = append(errs, validation.IsValidCIDRForLegacyField(path, s, strictIPs, nil)...)
		if except, err := netip.ParsePrefix(s); err == nil && (!cidr.Contains(except.Addr()) || except.Bits() <= cidr.Bits()) {
			errs = append(errs, field.Invalid(path, s, "must be a strict subset of `cidr`"))
		}
	}
	return errs
}

// warnNetworkPolicy: of 10.1.0.0/8 nobody knows whether the network or a part of it is meant.
func warnNetworkPolicy(p *networkingv1.NetworkPolicy) []string {
	var list []string
	warnPeers := func(peers []networkingv1.NetworkPolicyPeer, at *field.Path) {
		for i, peer := range peers {
			if peer.IPBlock == nil {
				continue
			}
			block := at.Index(i).Child("ipBlock")
			list = append(list, validation.GetWarningsForCIDR(block.Child("cidr"), peer.IPBlock.CIDR)...)
			for j, s := range peer.IPBlock.Except {
				list = append(list, validation.GetWarningsForCIDR(block.Child("except").Index(j), s)...)
			}
		}
	}
	for i, rule := range p.Spec.Ingress {
		warnPeers(rule.From, specPath.Child("ingress").Index(i).Child("from"))
	}
	for i, rule := range p.Spec.Egress {
		warnPeers(rule.To, specPath.Child("egress").Index(i).Child("to"))
	}
	return list
}
