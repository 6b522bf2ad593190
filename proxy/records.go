package proxy

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Of each object is kept what packets care for, read as soon as it comes: a tenth
// of what the object itself would take, of which there are many thousands.

// identity is by which name an object is known.
type identity struct{ namespace, name string }

// GetObjectMeta is metav1.ObjectMetaAccessor.
func (i identity) GetObjectMeta() metav1.Object {
	return &metav1.ObjectMeta{Namespace: i.namespace, Name: i.name}
}

func identityOf(o metav1.Object) identity { return identity{o.GetNamespace(), o.GetName()} }

// service is what is kept of a Service: its ports, in each IP family.
type service struct {
	identity
	v4, v6 []*ServicePort // none: it is not for us
}

func (s *service) id() ServiceName { return ServiceName{s.namespace, s.name} }

// ports are those of an IP family.
func (s *service) ports(family corev1.IPFamily) []*ServicePort {
	if family == corev1.IPv6Protocol {
		return s.v6
	}
	return s.v4
}

func readService(svc *corev1.Service) *service {
	return &service{identityOf(svc), servicePorts(svc, corev1.IPv4Protocol), servicePorts(svc, corev1.IPv6Protocol)}
}

// endpointSlice is what is kept of an EndpointSlice.
type endpointSlice struct {
	identity
	service string // whose it is; "" nobody's
	family  discoveryv1.AddressType
	hidden  bool            // of a headless Service: for DNS
	ports   []portEndpoints // as seen from this node
	made    time.Time       // when the endpoints changed in the cluster; zero: unknown
}

func (s *endpointSlice) owner() ServiceName { return ServiceName{s.namespace, s.service} }

func readSlice(slice *discoveryv1.EndpointSlice, node string) *endpointSlice {
	s := &endpointSlice{identity: identityOf(slice), service: slice.Labels[discoveryv1.LabelServiceName], family: slice.AddressType}
	if _, s.hidden = slice.Labels[corev1.IsHeadlessService]; !s.hidden {
		s.ports = sliceEndpoints(slice, node)
	}
	if made, err := time.Parse(time.RFC3339Nano, slice.Annotations[corev1.EndpointsLastChangeTriggerTime]); err == nil {
		s.made = made
	}
	return s
}

// reader returns what turns the objects of a watch into those which are kept. It
// may be given what it has returned itself.
func reader(node string) func(object any) (any, error) {
	return func(object any) (any, error) {
		switch o := object.(type) {
		case *corev1.Service:
			return readService(o), nil
		case *discoveryv1.EndpointSlice:
			return readSlice(o, node), nil
		case *corev1.Node:
			o.SetManagedFields(nil)
			return o, nil
		case *service, *endpointSlice:
			return o, nil
		}
		return nil, fmt.Errorf("a %T is not for a proxy", object)
	}
}
