package resource

import (
	"net/netip"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

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
	if old == nil {
		return validateCIDRs(c)
	}
	at, now, before := specPath.Child("cidrs"), c.Spec.CIDRs, old.Spec.CIDRs
	second := len(before) == 1 && len(now) == 2 // a cluster may get its other family later
	if len(now) != len(before) && !second {
		return field.ErrorList{field.Invalid(at, now, apivalidation.FieldImmutableErrorMsg)}
	}
	var errs field.ErrorList
	for i := range before {
		if now[i] != before[i] {
			errs = append(errs, field.Invalid(at.Index(i), now[i], apivalidation.FieldImmutableErrorMsg))
		}
	}
	if second {
		errs = append(errs, validateCIDRs(c)...)
	}
	return errs
}

func validateCIDRs(c *networkingv1.ServiceCIDR) field.ErrorList {
	at, cidrs := specPath.Child("cidrs"), c.Spec.CIDRs
	switch n := len(cidrs); {
	case n == 0:
		return field.ErrorList{field.Required(at, "at least one CIDR required")}
	case n > 2:
		return field.ErrorList{field.Invalid(at, c.Spec, "may only hold up to 2 values")}
	}
	var errs field.ErrorList
	for i, s := range cidrs {
		errs = append(errs, validation.IsValidCIDR(at.Index(i), s)...)
	}
	if len(cidrs) == 2 {
		a, errA := netip.ParsePrefix(cidrs[0])
		b, errB := netip.ParsePrefix(cidrs[1])
		if errA == nil && errB == nil && a.Addr().Is4() == b.Addr().Is4() {
			errs = append(errs, field.Invalid(at, cidrs, "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"))
		}
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

// validateIPAddress: an address belongs to one object as long as it is taken.
func validateIPAddress(ip, old *networkingv1.IPAddress) field.ErrorList {
	at := specPath.Child("parentRef")
	var errs field.ErrorList
	if r := ip.Spec.ParentRef; r == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		if r.Group != "" {
			errs = append(errs, invalidTexts(validation.IsDNS1123Subdomain(r.Group), r.Group, at.Child("group"))...)
		}
		errs = append(errs, pathSegment(r.Resource, at.Child("resource"))...)
		errs = append(errs, pathSegment(r.Name, at.Child("name"))...)
		if r.Namespace != "" {
			errs = append(errs, pathSegment(r.Namespace, at.Child("namespace"))...)
		}
	}
	if old != nil && !equality.Semantic.DeepEqual(ip.Spec.ParentRef, old.Spec.ParentRef) {
		errs = append(errs, field.Invalid(at, (*parentReference)(ip.Spec.ParentRef), apivalidation.FieldImmutableErrorMsg))
	}
	return errs
}

// parentReference is how upstream's message shows the owner of an address.
type parentReference struct{ Group, Resource, Namespace, Name string }
