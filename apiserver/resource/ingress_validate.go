package resource

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func validateIngress(i, old *networkingv1.Ingress) field.ErrorList {
	var errs field.ErrorList
	if len(i.Spec.Rules) == 0 && i.Spec.DefaultBackend == nil {
		errs = append(errs, field.Invalid(specPath, i.Spec.Rules, "either `defaultBackend` or `rules` must be specified"))
	}
	if b := i.Spec.DefaultBackend; b != nil {
		errs = append(errs, validateIngressBackend(b, specPath.Child("defaultBackend"))...)
	}
	for n, r := range i.Spec.Rules {
		errs = append(errs, validateIngressRule(&r, specPath.Child("rules").Index(n))...)
	}
	for n, t := range i.Spec.TLS {
		errs = append(errs, validateIngressTLS(&t, specPath.Child("tls").Index(n))...)
	}
	c := i.Spec.IngressClassName
	if c != nil {
		errs = append(errs, invalidTexts(apivalidation.NameIsDNSSubdomain(*c, false), *c, specPath.Child("ingressClassName"))...)
	}
	if class, ok := i.Annotations[ingressClassAnnotation]; old == nil && ok && c != nil && class != *c {
		errs = append(errs, field.Invalid(field.NewPath("annotations").Child(ingressClassAnnotation), class, "must match `ingressClassName` when both are specified"))
	}
	return errs
}

// invalidTexts makes errors of what a rule for names says about a value.
func invalidTexts(msgs []string, value string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, msg := range msgs {
		errs = append(errs, field.Invalid(at, value, msg))
	}
	return errs
}

func validateIngressRule(r *networkingv1.IngressRule, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.Host != "" {
		if _, err := netip.ParseAddr(r.Host); err == nil {
			errs = append(errs, field.Invalid(at.Child("host"), r.Host, "must be a DNS name, not an IP address"))
		}
		errs = append(errs, validateIngressHost(r.Host, at.Child("host"))...)
	}
	if r.HTTP == nil {
		return errs
	}
	paths := at.Child("http", "paths")
	if len(r.HTTP.Paths) == 0 {
		errs = append(errs, field.Required(paths, ""))
	}
	for m := range r.HTTP.Paths {
		errs = append(errs, validateIngressPath(&r.HTTP.Paths[m], paths.Index(m))...)
	}
	return errs
}

func validateIngressHost(host string, at *field.Path) field.ErrorList {
	if strings.Contains(host, "*") {
		return invalidTexts(validation.IsWildcardDNS1123Subdomain(host), host, at)
	}
	return invalidTexts(validation.IsDNS1123Subdomain(host), host, at)
}

func validateIngressTLS(t *networkingv1.IngressTLS, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, host := range t.Hosts {
		errs = append(errs, validateIngressHost(host, at.Child("hosts").Index(i))...)
	}
	if t.SecretName != "" {
		errs = append(errs, invalidTexts(apivalidation.NameIsDNSSubdomain(t.SecretName, false), t.SecretName, at.Child("secretName"))...)
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
		return field.ErrorList{field.Invalid(at, "", "resource or service backend is required")}
	case b.Service != nil && b.Resource != nil:
		return field.ErrorList{field.Invalid(at, "", "cannot set both resource and service backends")}
	case b.Service == nil:
		return validateLocalReference(b.Resource, at.Child("resource"))
	}
	var errs field.ErrorList
	if name := b.Service.Name; name == "" {
		errs = append(errs, field.Required(at.Child("service", "name"), ""))
	} else {
		errs = append(errs, invalidTexts(apivalidation.NameIsDNSLabel(name, false), name, at.Child("service", "name"))...)
	}
	port := at.Child("service", "port")
	switch p := b.Service.Port; {
	case p.Name != "" && p.Number != 0:
		errs = append(errs, field.Invalid(at, "", "cannot set both port name & port number"))
	case p.Name != "":
		errs = append(errs, invalidTexts(validation.IsValidPortName(p.Name), p.Name, port.Child("name"))...)
	case p.Number != 0:
		for _, msg := range validation.IsValidPortNum(int(p.Number)) {
			errs = append(errs, field.Invalid(port.Child("number"), p.Number, msg))
		}
	default:
		errs = append(errs, field.Required(at, "port name or number is required"))
	}
	return errs
}

// validateLocalReference: an object of some kind in the same namespace.
func validateLocalReference(r *corev1.TypedLocalObjectReference, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if r.APIGroup != nil {
		errs = append(errs, invalidTexts(validation.IsDNS1123Subdomain(*r.APIGroup), *r.APIGroup, at.Child("apiGroup"))...)
	}
	errs = append(errs, pathSegment(r.Kind, at.Child("kind"))...)
	return append(errs, pathSegment(r.Name, at.Child("name"))...)
}

// pathSegment: the value has to be there, and to fit between two slashes of a URL.
func pathSegment(value string, at *field.Path) field.ErrorList {
	if value == "" {
		return field.ErrorList{field.Required(at, "")}
	}
	return invalidTexts(content.IsPathSegmentName(value), value, at)
}

func validateIngressClass(c, old *networkingv1.IngressClass) field.ErrorList {
	at := specPath.Child("controller")
	var errs field.ErrorList
	if old != nil {
		errs = apivalidation.ValidateImmutableField(c.Spec.Controller, old.Spec.Controller, at)
	}
	if len(c.Spec.Controller) > 250 {
		errs = append(errs, field.TooLong(at, "", 250))
	}
	errs = append(errs, validation.IsDomainPrefixedPath(at, c.Spec.Controller)...)
	if p := c.Spec.Parameters; p != nil {
		errs = append(errs, validateClassParameters(p, specPath.Child("parameters"))...)
	}
	return errs
}

func validateClassParameters(p *networkingv1.IngressClassParametersReference, at *field.Path) field.ErrorList {
	errs := validateLocalReference(&corev1.TypedLocalObjectReference{APIGroup: p.APIGroup, Kind: p.Kind, Name: p.Name}, at)
	scopes := []string{networkingv1.IngressClassParametersReferenceScopeCluster, networkingv1.IngressClassParametersReferenceScopeNamespace}
	namespace := at.Child("namespace")
	switch scope := *p.Scope; {
	case !slices.Contains(scopes, scope):
		errs = append(errs, field.NotSupported(at.Child("scope"), scope, scopes))
	case scope == networkingv1.IngressClassParametersReferenceScopeNamespace && p.Namespace == nil:
		errs = append(errs, field.Required(namespace, "`parameters.scope` is set to 'Namespace'"))
	case scope == networkingv1.IngressClassParametersReferenceScopeNamespace:
		errs = append(errs, invalidTexts(apivalidation.ValidateNamespaceName(*p.Namespace, false), *p.Namespace, namespace)...)
	case p.Namespace != nil:
		errs = append(errs, field.Forbidden(namespace, "`parameters.scope` is set to 'Cluster'"))
	}
	return errs
}
