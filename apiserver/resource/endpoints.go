package resource

import (
	"fmt"
	"maps"
	"net"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Endpoints is the list of a Service's addresses as it was before
// EndpointSlices; many clients still read it.
var Endpoints = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Endpoints", Plural: "endpoints", Singular: "endpoints", ShortNames: []string{"ep"},
	Namespaced: true, Prefix: "/registry/services/endpoints/",
	MetaAgain: metaTwice,
	New:       func() Object { return &corev1.Endpoints{} },
	NewList:   func() runtime.Object { return &corev1.EndpointsList{} },
	Default: on(func(e *corev1.Endpoints) {
		for i := range e.Subsets {
			for j := range e.Subsets[i].Ports {
				set(&e.Subsets[i].Ports[j].Protocol, corev1.ProtocolTCP)
			}
		}
	}),
	Deprecated:     endpointsDeprecated,
	Warn:           warn(warnEndpoints),
	Validate:       check(validateEndpoints),
	CreateOnUpdate: true,
	Columns:        []metav1.TableColumnDefinition{column("Name", "string"), column("Endpoints", "string"), column("Age", "string")},
	Row: row(func(e *corev1.Endpoints, now time.Time) []any {
		return []any{e.Name, endpointsText(e), created(e, now)}
	}),
}

// endpointsText shows three addresses: "10.244.1.3:80,10.244.1.4:80,10.244.1.5:80 + 7 more...".
func endpointsText(e *corev1.Endpoints) string {
	if len(e.Subsets) == 0 {
		return "<none>"
	}
	const most = 3
	var list []string
	n := 0
	add := func(s string) {
		if n++; len(list) < most {
			list = append(list, s)
		}
	}
	for _, subset := range e.Subsets {
		if len(subset.Ports) == 0 {
			for _, a := range subset.Addresses {
				add(a.IP)
			}
		}
		for _, p := range subset.Ports {
			for _, a := range subset.Addresses {
				add(net.JoinHostPort(a.IP, strconv.Itoa(int(p.Port))))
			}
		}
	}
	text := upTo(list, most)
	if n > most {
		text = fmt.Sprintf("%s + %d more...", text, n-most)
	}
	return text
}

// EndpointSlice is a part, of at most a thousand endpoints, of a Service's
// endpoints. The service proxies read these.
var EndpointSlice = &Kind{
	GroupVersion: discoveryv1.SchemeGroupVersion,
	Kind:         "EndpointSlice", Plural: "endpointslices", Singular: "endpointslice",
	Namespaced: true, Prefix: "/registry/endpointslices/",
	New:        func() Object { return &discoveryv1.EndpointSlice{} },
	NewList:    func() runtime.Object { return &discoveryv1.EndpointSliceList{} },
	Default:    on(defaultEndpointSlice),
	Prepare:    onBoth(prepareEndpointSlice),
	Warn:       warn(warnEndpointSlice),
	Validate:   check(validateEndpointSlice),
	Generation: true,
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("AddressType", "string"), column("Ports", "string"), column("Endpoints", "string"), column("Age", "string"),
	},
	Row: row(func(s *discoveryv1.EndpointSlice, now time.Time) []any {
		return []any{s.Name, string(s.AddressType), slicePorts(s), sliceEndpoints(s), created(s, now)}
	}),
}

func defaultEndpointSlice(s *discoveryv1.EndpointSlice) {
	for i := range s.Ports {
		setPtr(&s.Ports[i].Name, "")
		setPtr(&s.Ports[i].Protocol, corev1.ProtocolTCP)
	}
}

// prepareEndpointSlice: labels count as a change, for they say whose slice it is.
func prepareEndpointSlice(s, old *discoveryv1.EndpointSlice) {
	if old != nil && !maps.Equal(s.Labels, old.Labels) {
		s.Generation = old.Generation + 1
	}
	if len(s.Endpoints) == 0 { // shown as null
		s.Endpoints = nil
	}
	if len(s.Ports) == 0 {
		s.Ports = nil
	}
}

func slicePorts(s *discoveryv1.EndpointSlice) string {
	var list []string
	for _, p := range s.Ports {
		switch {
		case p.Port != nil:
			list = append(list, strconv.Itoa(int(*p.Port)))
		case p.Name != nil && *p.Name != "":
			list = append(list, *p.Name)
		}
	}
	return orUnset(upTo(list, 3))
}

func sliceEndpoints(s *discoveryv1.EndpointSlice) string {
	var list []string
	for _, e := range s.Endpoints {
		list = append(list, e.Addresses...)
	}
	return orUnset(upTo(list, 3))
}

func orUnset(s string) string {
	if s == "" {
		return "<unset>"
	}
	return s
}
