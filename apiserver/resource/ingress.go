package resource

import (
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Ingress says which HTTP requests from outside go to which Service; an
// ingress controller, a reverse proxy somebody installs, does it.
var Ingress = &Kind{
	GroupVersion: networkingv1.SchemeGroupVersion,
	Kind:         "Ingress", Plural: "ingresses", Singular: "ingress", ShortNames: []string{"ing"},
	Namespaced: true, Prefix: "/registry/ingress/",
	New:      func() Object { return &networkingv1.Ingress{} },
	NewList:  func() runtime.Object { return &networkingv1.IngressList{} },
	Warn:     warn(warnIngress),
	Validate: check(validateIngress),
	Status:   true, Generation: true,
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Class", "string"), column("Hosts", "string"), column("Address", "string"), column("Ports", "string"), column("Age", "string"),
	},
	Row: row(func(i *networkingv1.Ingress, now time.Time) []any {
		ports := "80"
		if len(i.Spec.TLS) > 0 {
			ports = "80, 443"
		}
		return []any{i.Name, ingressClass(i), ingressHosts(i), ingressAddress(i), ports, created(i, now)}
	}),
}

// ingressClassAnnotation named the class before there was a field for it.
const ingressClassAnnotation = "kubernetes.io/ingress.class"

func ingressClass(i *networkingv1.Ingress) string {
	if c := i.Spec.IngressClassName; c != nil {
		return *c
	}
	return orNone(i.Annotations[ingressClassAnnotation])
}

func ingressHosts(i *networkingv1.Ingress) string {
	var hosts []string
	for _, r := range i.Spec.Rules {
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	if len(hosts) == 0 {
		return "*"
	}
	return upTo(hosts, 3)
}

func ingressAddress(i *networkingv1.Ingress) string {
	var list []string
	for _, in := range i.Status.LoadBalancer.Ingress {
		if in.IP != "" {
			list = append(list, in.IP)
		} else if in.Hostname != "" {
			list = append(list, in.Hostname)
		}
	}
	return strings.Join(list, ",")
}

// IngressClass names an ingress controller.
var IngressClass = &Kind{
	GroupVersion: networkingv1.SchemeGroupVersion,
	Kind:         "IngressClass", Plural: "ingressclasses", Singular: "ingressclass", Prefix: "/registry/ingressclasses/",
	MetaAgain: metaTwice,
	New:       func() Object { return &networkingv1.IngressClass{} },
	NewList:   func() runtime.Object { return &networkingv1.IngressClassList{} },
	Default: on(func(c *networkingv1.IngressClass) {
		if p := c.Spec.Parameters; p != nil {
			setPtr(&p.Scope, networkingv1.IngressClassParametersReferenceScopeCluster)
		}
	}),
	Validate:   check(validateIngressClass),
	Generation: true,
	Columns:    []metav1.TableColumnDefinition{column("Name", "string"), column("Controller", "string"), column("Parameters", "string"), column("Age", "string")},
	Row: row(func(c *networkingv1.IngressClass, now time.Time) []any {
		parameters := "<none>"
		if p := c.Spec.Parameters; p != nil {
			parameters = p.Kind
			if p.APIGroup != nil {
				parameters += "." + *p.APIGroup
			}
			parameters += "/" + p.Name
		}
		return []any{c.Name, c.Spec.Controller, parameters, created(c, now)}
	}),
}
