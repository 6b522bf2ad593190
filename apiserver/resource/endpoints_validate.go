package resource

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The largest EndpointSlice that is accepted, as upstream.
const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxHints     = 8
)

func validateEndpointSlice(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	kind := field.NewPath("addressType")
	var errs field.ErrorList
	errs = append(errs, supported(s.AddressType, kind, discoveryv1.AddressTypeFQDN, discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6)...)
	errs = append(errs, validateSlicePorts(s.Ports)...)
	if old == nil || !equality.Semantic.DeepEqual(s.Endpoints, old.Endpoints) {
		errs = append(errs, validateSliceEndpoints(s)...)
	}
	if old != nil {
		errs = append(errs, apivalidation.ValidateImmutableField(s.AddressType, old.AddressType, kind)...)
	}
	return errs
}

func validateSliceEndpoints(s *discoveryv1.EndpointSlice) field.ErrorList {
	path := field.NewPath("endpoints")
	if n := len(s.Endpoints); n > maxEndpoints {
		return field.ErrorList{field.TooMany(path, n, maxEndpoints)}
	}
	var errs field.ErrorList
	for i, e := range s.Endpoints {
		at := path.Index(i)
		addresses := at.Child("addresses")
		switch n := len(e.Addresses); {
		case n == 0:
			errs = append(errs, field.Required(addresses, "must contain at least 1 address"))
		case n > maxAddresses:
			errs = append(errs, field.TooMany(addresses, n, maxAddresses))
		}
		for j, a := range e.Addresses {
			errs = append(errs, validateSliceAddress(s.AddressType, a, addresses, j)...)
		}
		if e.NodeName != nil {
			errs = append(errs, invalidTexts(validation.IsDNS1123Subdomain(*e.NodeName), *e.NodeName, at.Child("nodeName"))...)
		}
		if e.Hostname != nil {
			errs = append(errs, invalidTexts(validation.IsDNS1123Label(*e.Hostname), *e.Hostname, at.Child("hostname"))...)
		}
		if e.Hints != nil {
			errs = append(errs, validateHints(e.Hints, at.Child("hints"))...)
		}
	}
	return errs
}

func validateSliceAddress(kind discoveryv1.AddressType, a string, path *field.Path, i int) field.ErrorList {
	switch kind {
	case discoveryv1.AddressTypeFQDN:
		return validation.IsFullyQualifiedDomainName(path.Index(i), a)
	case discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6:
	default:
		return nil // the type itself is refused
	}
	if errs := validation.IsValidIPForLegacyField(path.Index(i), a, strictIPs, nil); len(errs) > 0 {
		return errs
	}
	var errs field.ErrorList
	if string(kind) != string(familyOf(a)) {
		errs = append(errs, field.Invalid(path, a, fmt.Sprintf("must be an %s address", kind)))
	}
	return append(errs, nonSpecialIP(a, path.Index(i))...)
}

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	at := path.Child("forZones")
	if n := len(h.ForZones); n > maxHints {
		return field.ErrorList{field.TooMany(at, n, maxHints)}
	}
	seen := map[string]bool{}
	for i, z := range h.ForZones {
		if seen[z.Name] {
			errs = append(errs, field.Duplicate(at.Index(i).Child("name"), z.Name))
		}
		seen[z.Name] = true
		errs = append(errs, invalidTexts(validation.IsValidLabelValue(z.Name), z.Name, at.Index(i).Child("name"))...)
	}
	at = path.Child("forNodes")
	if n := len(h.ForNodes); n > maxHints {
		return append(errs, field.TooMany(at, n, maxHints))
	}
	seen = map[string]bool{}
	for i, node := range h.ForNodes {
		if seen[node.Name] {
			errs = append(errs, field.Duplicate(at.Index(i).Child("name"), node.Name))
		}
		seen[node.Name] = true
		errs = append(errs, invalidTexts(validation.IsDNS1123Subdomain(node.Name), node.Name, at.Index(i).Child("name"))...)
	}
	return errs
}

func validateSlicePorts(ports []discoveryv1.EndpointPort) field.ErrorList {
	path := field.NewPath("ports")
	var errs field.ErrorList
	if n := len(ports); n > maxPorts {
		return field.ErrorList{field.TooMany(path, n, maxPorts)}
	}
	names := map[string]bool{}
	for i, p := range ports {
		at := path.Index(i)
		name := *p.Name
		if name != "" {
			errs = append(errs, invalidTexts(validation.IsDNS1123Label(name), name, at.Child("name"))...)
		}
		if names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names[name] = true
		if !slices.Contains(protocols, string(*p.Protocol)) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, protocols))
		}
		if p.AppProtocol != nil {
			errs = append(errs, invalidTexts(validation.IsQualifiedName(*p.AppProtocol), *p.AppProtocol, at.Child("appProtocol"))...)
		}
	}
	return errs
}

// validateEndpoints checks the older form of the same.
func validateEndpoints(e, old *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	if old != nil && equality.Semantic.DeepEqual(e.Subsets, old.Subsets) {
		return nil
	}
	for i, subset := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		if len(subset.Addresses)+len(subset.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(at, "must specify `addresses` or `notReadyAddresses`"))
		}
		for j := range subset.Addresses {
			errs = append(errs, validateEndpointAddress(&subset.Addresses[j], at.Child("addresses").Index(j))...)
		}
		for j := range subset.NotReadyAddresses {
			errs = append(errs, validateEndpointAddress(&subset.NotReadyAddresses[j], at.Child("notReadyAddresses").Index(j))...)
		}
		for j := range subset.Ports {
			errs = append(errs, validateEndpointPort(&subset.Ports[j], len(subset.Ports) > 1, at.Child("ports").Index(j))...)
		}
	}
	return errs
}

func validateEndpointAddress(a *corev1.EndpointAddress, at *field.Path) field.ErrorList {
	errs := validation.IsValidIPForLegacyField(at.Child("ip"), a.IP, strictIPs, nil)
	if a.Hostname != "" {
		errs = append(errs, invalidTexts(validation.IsDNS1123Label(a.Hostname), a.Hostname, at.Child("hostname"))...)
	}
	if a.NodeName != nil {
		errs = append(errs, invalidTexts(validation.IsDNS1123Subdomain(*a.NodeName), *a.NodeName, at.Child("nodeName"))...)
	}
	return append(errs, nonSpecialIP(a.IP, at.Child("ip"))...)
}

func validateEndpointPort(p *corev1.EndpointPort, needsName bool, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p.Name != "" {
		errs = append(errs, invalidTexts(validation.IsDNS1123Label(p.Name), p.Name, at.Child("name"))...)
	} else if needsName {
		errs = append(errs, field.Required(at.Child("name"), ""))
	}
	for _, msg := range validation.IsValidPortNum(int(p.Port)) {
		errs = append(errs, field.Invalid(at.Child("port"), p.Port, msg))
	}
	if !slices.Contains(protocols, string(p.Protocol)) {
		errs = append(errs, field.NotSupported(at.Child("protocol"), p.Protocol, protocols))
	}
	if p.AppProtocol != nil {
		errs = append(errs, invalidTexts(validation.IsQualifiedName(*p.AppProtocol), *p.AppProtocol, at.Child("appProtocol"))...)
	}
	return errs
}
