package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// handler is what a probe and a lifecycle hook have in common: one way to ask
// the container, or to tell it.
type handler struct {
	corev1.ProbeHandler
	Sleep *corev1.SleepAction
}

func hookHandler(h *corev1.LifecycleHandler) handler {
	return handler{ProbeHandler: corev1.ProbeHandler{Exec: h.Exec, HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket}, Sleep: h.Sleep}
}

// validateHandler: exactly one of the ways. grace is the pod's grace period,
// beyond which nothing sleeps.
func validateHandler(h handler, grace *int64, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	handlers := 0
	for _, way := range []struct {
		name  string
		set   bool
		check func(*field.Path) field.ErrorList
	}{
		{"exec", h.Exec != nil, func(at *field.Path) field.ErrorList {
			if len(h.Exec.Command) == 0 {
				return field.ErrorList{field.Required(at.Child("command"), "")}
			}
			return nil
		}},
		{"httpGet", h.HTTPGet != nil, func(at *field.Path) field.ErrorList { return validateHTTPGet(h.HTTPGet, at) }},
		{"tcpSocket", h.TCPSocket != nil, func(at *field.Path) field.ErrorList {
			return validatePortNumOrName(h.TCPSocket.Port, at.Child("port"))
		}},
		{"grpc", h.GRPC != nil, func(at *field.Path) field.ErrorList {
			return validatePortNumOrName(intstr.FromInt32(h.GRPC.Port), at.Child("port"))
		}},
		{"sleep", h.Sleep != nil, func(at *field.Path) field.ErrorList {
			if s := h.Sleep.Seconds; grace != nil && (s < 0 || s > *grace) {
				return field.ErrorList{field.Invalid(at, s, fmt.Sprintf("must be non-negative and less than terminationGracePeriodSeconds (%d)", *grace))}
			}
			return nil
		}},
	} {
		switch {
		case !way.set:
			continue
		case handlers > 0:
			errs = append(errs, field.Forbidden(at.Child(way.name), "may not specify more than 1 handler type"))
		default:
			errs = append(errs, way.check(at.Child(way.name))...)
		}
		handlers++
	}
	if handlers == 0 {
		errs = append(errs, field.Required(at, "must specify a handler type"))
	}
	return errs
}

func validateHTTPGet(h *corev1.HTTPGetAction, at *field.Path) field.ErrorList {
	errs := append(required(h.Path, at.Child("path")), validatePortNumOrName(h.Port, at.Child("port"))...)
	if h.Scheme != corev1.URISchemeHTTP && h.Scheme != corev1.URISchemeHTTPS {
		errs = append(errs, field.NotSupported(at.Child("scheme"), h.Scheme, []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}))
	}
	for _, header := range h.HTTPHeaders {
		errs = append(errs, each(at.Child("httpHeaders"), header.Name, validation.IsHTTPHeaderName(header.Name))...)
	}
	return errs
}

func validateLifecycle(l *corev1.Lifecycle, s *corev1.PodSpec, at *field.Path) field.ErrorList {
	if l == nil {
		return nil
	}
	var errs field.ErrorList
	if l.PostStart != nil {
		errs = append(errs, validateHandler(hookHandler(l.PostStart), s.TerminationGracePeriodSeconds, at.Child("postStart"))...)
	}
	if l.PreStop != nil {
		errs = append(errs, validateHandler(hookHandler(l.PreStop), s.TerminationGracePeriodSeconds, at.Child("preStop"))...)
	}
	if l.StopSignal != nil && s.OS == nil {
		errs = append(errs, field.Forbidden(at.Child("stopSignal"), "may not be set for containers with empty `spec.os.name`"))
	}
	return errs
}

// validateProbes: of the three only a readiness probe may want several
// successes, and only the other two end the container.
func validateProbes(c *corev1.Container, s *corev1.PodSpec, at *field.Path) field.ErrorList {
	errs := validateProbe(c.LivenessProbe, s, at.Child("livenessProbe"))
	errs = append(errs, oneSuccess(c.LivenessProbe, at.Child("livenessProbe"))...)
	errs = append(errs, validateProbe(c.ReadinessProbe, s, at.Child("readinessProbe"))...)
	if p := c.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(at.Child("readinessProbe", "terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	errs = append(errs, validateProbe(c.StartupProbe, s, at.Child("startupProbe"))...)
	return append(errs, oneSuccess(c.StartupProbe, at.Child("startupProbe"))...)
}

func oneSuccess(p *corev1.Probe, at *field.Path) field.ErrorList {
	if p == nil || p.SuccessThreshold == 1 {
		return nil
	}
	return field.ErrorList{field.Invalid(at.Child("successThreshold"), p.SuccessThreshold, "must be 1")}
}

func validateProbe(p *corev1.Probe, s *corev1.PodSpec, at *field.Path) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateHandler(handler{ProbeHandler: p.ProbeHandler}, s.TerminationGracePeriodSeconds, at)
	for _, n := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds},
		{"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		errs = append(errs, notNegative(int64(n.value), at.Child(n.name))...)
	}
	if t := p.TerminationGracePeriodSeconds; t != nil && *t <= 0 {
		errs = append(errs, field.Invalid(at.Child("terminationGracePeriodSeconds"), *t, "must be greater than 0"))
	}
	return errs
}
