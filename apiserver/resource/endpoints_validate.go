package resource

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The largest EndpointSlice that is accepted, as upstream.
const (
	maxEndpoints = 1000
	maxAddresses = 100
	maxPorts     = 20000
	maxZoneHints = 8
)

func validateEndpointSlice(s, old *discoveryv1.EndpointSlice) field.ErrorList {
	kind := field.NewPath("addressType")
	var errs field.ErrorList
	switch {
	case s.AddressType == "":
		return field.ErrorList{field.Required(kind, "")}
	case !slices.Contains([]string{"FQDN", "IPv4", "IPv6"}, string(s.AddressType)):
		return field.ErrorList{field.NotSupported(kind, s.AddressType, []string{"FQDN", "IPv4", "IPv6"})}
	case old != nil && old.AddressType != s.AddressType:
		return field.ErrorList{field.Invalid(kind, s.AddressType, "field is immutable")}
	}
	errs = append(errs, validateSliceEndpoints(s)...)
	return append(errs, validateSlicePorts(s.Ports)...)
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
			for _, msg := range validation.IsDNS1123Subdomain(*e.NodeName) {
				errs = append(errs, field.Invalid(at.Child("nodeName"), *e.NodeName, msg))
			}
		}
		if e.Hostname != nil {
			for _, msg := range validation.IsDNS1123Label(*e.Hostname) {
				errs = append(errs, field.Invalid(at.Child("hostname"), *e.Hostname, msg))
			}
		}
		if e.Hints != nil {
			errs = append(errs, validateHints(e.Hints, at.Child("hints"))...)
		}
	}
	return errs
}

func validateSliceAddress(kind discoveryv1.AddressType, a string, path *field.Path, i int) field.ErrorList {
	if kind == discoveryv1.AddressTypeFQDN {
		return validation.IsFullyQualifiedName(path.Index(i), a)
	}
	if errs := validation.IsValidIP(path.Index(i), a); len(errs) > 0 {
		return errs
	}
	ip, _ := netip.ParseAddr(a)
	switch {
	case kind == discoveryv1.AddressTypeIPv4 && !ip.Is4():
		return field.ErrorList{field.Invalid(path, a, "must be an IPv4 address")}
	case kind == discoveryv1.AddressTypeIPv6 && !ip.Is6():
		return field.ErrorList{field.Invalid(path, a, "must be an IPv6 address")}
	}
	return nonSpecialIP(a, path.Index(i))
}

func validateHints(h *discoveryv1.EndpointHints, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	zones := path.Child("forZones")
	if n := len(h.ForZones); n > maxZoneHints {
		errs = append(errs, field.TooMany(zones, n, maxZoneHints))
	}
	for i, z := range h.ForZones {
		for _, msg := range validation.IsValidLabelValue(z.Name) {
			errs = append(errs, field.Invalid(zones.Index(i).Child("name"), z.Name, msg))
		}
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
			for _, msg := range validation.IsDNS1123Label(name) {
				errs = append(errs, field.Invalid(at.Child("name"), name, msg))
			}
		}
		if names[name] {
			errs = append(errs, field.Duplicate(at.Child("name"), name))
		}
		names[name] = true
		if !slices.Contains(protocols, string(*p.Protocol)) {
			errs = append(errs, field.NotSupported(at.Child("protocol"), *p.Protocol, protocols))
		}
		if p.Port != nil {
			for _, msg := range validation.IsValidPortNum(int(*p.Port)) {
				errs = append(errs, field.Invalid(at.Child("port"), *p.Port, msg))
			}
		}
	}
	return errs
}

// validateEndpoints checks the older form of the same.
func validateEndpoints(e, _ *corev1.Endpoints) field.ErrorList {
	var errs field.ErrorList
	for i, subset := range e.Subsets {
		at := field.NewPath("subsets").Index(i)
		if len(subset.Addresses)+len(subset.NotReadyAddresses) == 0 {
			errs = append(errs, field.Required(at, "must specify `addresses` or `notReadyAddresses`"))
		}
		for name, list := range map[string][]corev1.EndpointAddress{"addresses": subset.Addresses, "notReadyAddresses": subset.NotReadyAddresses} {
			for j, a := range list {
				path := at.Child(name).Index(j).Child("ip")
				wrong := validation.IsValidIP(path, a.IP)
				if len(wrong) == 0 {
					wrong = nonSpecialIP(a.IP, path)
				}
				errs = append(errs, wrong...)
			}
		}
		for j, p := range subset.Ports {
			path := at.Child("ports").Index(j)
			if len(subset.Ports) > 1 && p.Name == "" {
				errs = append(errs, field.Required(path.Child("name"), ""))
			}
			for _, msg := range validation.IsValidPortNum(int(p.Port)) {
				errs = append(errs, field.Invalid(path.Child("port"), p.Port, msg))
			}
			if !slices.Contains(protocols, string(p.Protocol)) {
				errs = append(errs, field.NotSupported(path.Child("protocol"), p.Protocol, protocols))
			}
		}
	}
	return errs
}
