package resource

import (
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Ingress says which HTTP requests from outside go to which Service; an
// ingress controller, a reverse proxy somebody installs, does it.
var Ingress = &Kind{
	GroupVersion: networkingv1.SchemeGroupVersion,
	Kind:         "Ingress", Plural: "ingresses", Singular: "ingress", ShortNames: []string{"ing"},
	Namespaced: true, Prefix: "/registry/ingress/",
	New:      func() Object { return &networkingv1.Ingress{} },
	NewList:  func() runtime.Object { return &networkingv1.IngressList{} },
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

func ingressClass(i *networkingv1.Ingress) string {
	if c := i.Spec.IngressClassName; c != nil {
		return *c
	}
	return orNone(i.Annotations["kubernetes.io/ingress.class"])
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

func validateIngress(i, _ *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	if len(i.Spec.Rules) == 0 && i.Spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(specPath, i.Spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if b := i.Spec.DefaultBackend; b != nil {
		errs = append(errs, validateIngressBackend(b, specPath.Child("defaultBackend"))...)
	}
	if c := i.Spec.IngressClassName; c != nil {
		for _, msg := range apivalidation.NameIsDNSSubdomain(*c, false) {
			errs = append(errs, field.Invalid(specPath.Child("ingressClassName"), *c, msg))
		}
	}
	for n, r := range i.Spec.Rules {
		at := specPath.Child("rules").Index(n)
		errs = append(errs, validateIngressHost(r.Host, at.Child("host"))...)
		if r.HTTP == nil {
			continue
		}
		paths := at.Child("http", "paths")
		if len(r.HTTP.Paths) == 0 {
			errs = append(errs, field.Required(paths, ""))
		}
		for m := range r.HTTP.Paths {
			errs = append(errs, validateIngressPath(&r.HTTP.Paths[m], paths.Index(m))...)
		}
	}
	return errs
}

func validateIngressHost(host string, at *field.Path) field.ErrorList {
	var msgs []string
	switch {
	case host == "":
	case strings.HasPrefix(host, "*"):
		msgs = validation.IsWildcardDNS1123Subdomain(host)
	default:
		msgs = validation.IsDNS1123Subdomain(host)
	}
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(at, host, msg))
	}
	return errs
}

// Sequences that two HTTP servers may understand differently.
var ambiguous, ambiguousEnd = []string{"//", "/./", "/../", "%2f", "%2F"}, []string{"/..", "/."}

func validateIngressPath(p *networkingv1.HTTPIngressPath, at *field.Path) field.ErrorList {
	if p.PathType == nil {
		return field.ErrorList{field.Required(at.Child("pathType"), "pathType must be specified")}
	}
	var errs field.ErrorList
	switch *p.PathType {
	case networkingv1.PathTypeExact, networkingv1.PathTypePrefix:
		if !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(at.Child("path"), p.Path, "must be an absolute path"))
		}
		for _, s := range ambiguous {
			if strings.Contains(p.Path, s) {
				errs = append(errs, field.Invalid(at.Child("path"), p.Path, "must not contain '"+s+"'"))
			}
		}
		for _, s := range ambiguousEnd {
			if strings.HasSuffix(p.Path, s) {
				errs = append(errs, field.Invalid(at.Child("path"), p.Path, "cannot end with '"+s+"'"))
			}
		}
	case networkingv1.PathTypeImplementationSpecific:
		if p.Path != "" && !strings.HasPrefix(p.Path, "/") {
			errs = append(errs, field.Invalid(at.Child("path"), p.Path, "must be an absolute path"))
		}
	default:
		errs = append(errs, field.NotSupported(at.Child("pathType"), *p.PathType, []networkingv1.PathType{networkingv1.PathTypeExact, networkingv1.PathTypeImplementationSpecific, networkingv1.PathTypePrefix}))
	}
	return append(errs, validateIngressBackend(&p.Backend, at.Child("backend"))...)
}

func validateIngressBackend(b *networkingv1.IngressBackend, at *field.Path) field.ErrorList {
	switch {
	case b.Service == nil && b.Resource == nil:
		return field.ErrorList{field.Required(at, "")}
	case b.Service != nil && b.Resource != nil:
		return field.ErrorList{field.Invalid(at, "", "cannot set both resource and service backends")}
	case b.Service == nil:
		return nil
	}
	var errs field.ErrorList
	if b.Service.Name == "" {
		errs = append(errs, field.Required(at.Child("service", "name"), ""))
	} else {
		for _, msg := range apivalidation.NameIsDNS1035Label(b.Service.Name, false) {
			errs = append(errs, field.Invalid(at.Child("service", "name"), b.Service.Name, msg))
		}
	}
	port := at.Child("service", "port")
	switch p := b.Service.Port; {
	case p.Name != "" && p.Number != 0:
		errs = append(errs, field.Invalid(port, p.Name, "cannot set both port name & port number"))
	case p.Name != "":
		for _, msg := range validation.IsValidPortName(p.Name) {
			errs = append(errs, field.Invalid(port.Child("name"), p.Name, msg))
		}
	case p.Number != 0:
		for _, msg := range validation.IsValidPortNum(int(p.Number)) {
			errs = append(errs, field.Invalid(port.Child("number"), p.Number, msg))
		}
	default:
		errs = append(errs, field.Required(port, "port name or number is required"))
	}
	return errs
}

// IngressClass names an ingress controller.
var IngressClass = &Kind{
	GroupVersion: networkingv1.SchemeGroupVersion,
	Kind:         "IngressClass", Plural: "ingressclasses", Singular: "ingressclass", Prefix: "/registry/ingressclasses/",
	New:     func() Object { return &networkingv1.IngressClass{} },
	NewList: func() runtime.Object { return &networkingv1.IngressClassList{} },
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

func validateIngressClass(c, old *networkingv1.IngressClass) field.ErrorList {
	at := specPath.Child("controller")
	if old != nil {
		return apivalidation.ValidateImmutableField(c.Spec.Controller, old.Spec.Controller, at)
	}
	switch {
	case c.Spec.Controller == "":
		return field.ErrorList{field.Required(at, "")}
	case len(c.Spec.Controller) > 250:
		return field.ErrorList{field.TooLong(at, "", 250)}
	}
	return validation.IsDomainPrefixedPath(at, c.Spec.Controller)
}

// ServiceCIDR is a range from which Services get their addresses.
var ServiceCIDR = &Kind{
	GroupVersion: networkingv1.SchemeGroupVersion,
	Kind:         "ServiceCIDR", Plural: "servicecidrs", Singular: "servicecidr", Prefix: "/registry/servicecidrs/",
	New:      func() Object { return &networkingv1.ServiceCIDR{} },
	NewList:  func() runtime.Object { return &networkingv1.ServiceCIDRList{} },
	Validate: check(validateServiceCIDR),
	Status:   true,
	Columns:  []metav1.TableColumnDefinition{column("Name", "string"), column("CIDRs", "string"), column("Age", "string")},
	Row: row(func(c *networkingv1.ServiceCIDR, now time.Time) []any {
		return []any{c.Name, strings.Join(c.Spec.CIDRs, ","), created(c, now)}
	}),
}

func validateServiceCIDR(c, old *networkingv1.ServiceCIDR) field.ErrorList {
	at := specPath.Child("cidrs")
	switch n := len(c.Spec.CIDRs); {
	case old != nil && !slices.Equal(c.Spec.CIDRs, old.Spec.CIDRs):
		return field.ErrorList{field.Invalid(at, c.Spec.CIDRs, "field is immutable")}
	case n == 0:
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	case n > 2:
		return field.ErrorList{field.Invalid(at, c.Spec, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	for i, s := range c.Spec.CIDRs {
		errs = append(errs, validation.IsValidCIDR(at.Index(i), s)...)
	}
	return errs
}

// ReadyServiceCIDR reports whether a ServiceCIDR may be allocated from.
func ReadyServiceCIDR(c *networkingv1.ServiceCIDR) bool {
	for _, condition := range c.Status.Conditions {
		if condition.Type == networkingv1.ServiceCIDRConditionReady {
			return condition.Status == metav1.ConditionTrue
		}
	}
	return false
}
