package controllers

import (
	"context"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// sliceMirror copies Endpoints which somebody wrote by hand into EndpointSlices. A Service without a
// selector leads wherever its author says, often out of the cluster: a database at 192.168.56.1, say. Old
// manifests say so in an Endpoints object of the Service's name; kube-proxy reads slices only.
type sliceMirror struct {
	services  corelisters.ServiceLister
	endpoints corelisters.EndpointsLister
	slices    *managedSlices
	events    record.EventRecorder
}

const (
	mirrorManager = "endpointslicemirroring-controller.k8s.io"
	// maxMirrored is how many addresses of one subset are copied; upstream's --mirroring-max-endpoints-per-subset.
	maxMirrored = 1000
	// leaderAnnotation marks Endpoints which old leader elections used as a lock. They mean no addresses.
	leaderAnnotation = "control-plane.alpha.kubernetes.io/leader"
)

func sliceMirroring(c *cluster) loop {
	services, informer := c.informers.Core().V1().Services(), c.informers.Core().V1().Endpoints()
	m := &sliceMirror{
		services: services.Lister(), endpoints: informer.Lister(), slices: c.slicesOf(mirrorManager),
		events: c.eventsFrom("endpoint-slice-mirroring-controller"),
	}
	queue := reconcile.New("endpointslicemirroring", m.sync)
	kube.OnChange(services.Informer(), func(was, is *corev1.Service) {
		if was == nil || is == nil || (was.Spec.Selector == nil) != (is.Spec.Selector == nil) {
			queue.Add(keyOf(either(was, is)))
		}
	})
	kube.OnChange(informer.Informer(), func(was, is *corev1.Endpoints) {
		if mirrored(was) || mirrored(is) {
			queue.Add(keyOf(either(was, is)))
		}
	})
	m.slices.watch(queue.Add)
	return func(ctx context.Context) { queue.Run(ctx, 5) }
}

// mirrored tells whether Endpoints are to be copied, as far as they say so themselves.
func mirrored(endpoints *corev1.Endpoints) bool {
	if endpoints == nil || endpoints.Labels[discoveryv1.LabelSkipMirror] == "true" {
		return false
	}
	_, lock := endpoints.Annotations[leaderAnnotation]
	return !lock
}

func (m *sliceMirror) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	if !m.slices.written.visible(key) {
		return nil // the event of the slice we wrote last brings us back
	}
	service, err := m.services.Services(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	endpoints, err := m.endpoints.Endpoints(namespace).Get(name)
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if service == nil || service.Spec.Selector != nil || !mirrored(endpoints) {
		return m.slices.apply(ctx, key, slicePlan{delete: m.slices.of(key)}, time.Time{})
	}
	wanted, dropped := mirroredGroups(endpoints)
	if dropped.invalid > 0 {
		m.events.Eventf(endpoints, corev1.EventTypeWarning, "InvalidIPAddress", "Skipped %d invalid IP addresses when mirroring to EndpointSlices", dropped.invalid)
	}
	if dropped.tooMany > 0 {
		m.events.Eventf(endpoints, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", maxMirrored, dropped.tooMany)
	}
	return m.slices.apply(ctx, key, planSlices(mirrorSource(endpoints), wanted, m.slices.of(key)), time.Time{})
}

// mirrorSource: the slices belong to the Endpoints, and look like them.
func mirrorSource(endpoints *corev1.Endpoints) sliceSource {
	labels, annotations := map[string]string{}, map[string]string{}
	maps.Copy(labels, endpoints.Labels)
	labels[discoveryv1.LabelServiceName] = endpoints.Name
	labels[discoveryv1.LabelManagedBy] = mirrorManager
	maps.Copy(annotations, endpoints.Annotations)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	return sliceSource{
		namespace: endpoints.Namespace, name: endpoints.Name, labels: labels, annotations: annotations,
		owner: *metav1.NewControllerRef(endpoints, corev1.SchemeGroupVersion.WithKind("Endpoints")),
	}
}

// notMirrored counts what could not be copied.
type notMirrored struct{ invalid, tooMany int }

// mirroredGroups turns subsets into groups of endpoints, one for each set of ports and each address family.
func mirroredGroups(endpoints *corev1.Endpoints) (groups []endpointGroup, dropped notMirrored) {
	for _, subset := range endpoints.Subsets {
		ports := mirroredPorts(subset.Ports)
		left := maxMirrored
		add := func(address corev1.EndpointAddress, ready bool) {
			ip, err := netip.ParseAddr(address.IP)
			switch {
			case err != nil:
				dropped.invalid++
				return
			case left == 0:
				dropped.tooMany++
				return
			}
			left--
			family := discoveryv1.AddressTypeIPv6
			if ip.Is4() {
				family = discoveryv1.AddressTypeIPv4
			}
			groups = addToGroup(groups, family, ports, mirroredEndpoint(address, ready))
		}
		for _, address := range subset.Addresses {
			add(address, true)
		}
		for _, address := range subset.NotReadyAddresses {
			add(address, false)
		}
	}
	return groups, dropped
}

func mirroredEndpoint(address corev1.EndpointAddress, ready bool) discoveryv1.Endpoint {
	endpoint := discoveryv1.Endpoint{
		Addresses: []string{address.IP}, Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		TargetRef: address.TargetRef, NodeName: address.NodeName,
	}
	if address.Hostname != "" {
		endpoint.Hostname = &address.Hostname
	}
	return endpoint
}

func mirroredPorts(ports []corev1.EndpointPort) []discoveryv1.EndpointPort {
	var converted []discoveryv1.EndpointPort
	for _, port := range ports {
		converted = append(converted, discoveryv1.EndpointPort{Name: &port.Name, Port: &port.Port, Protocol: &port.Protocol, AppProtocol: port.AppProtocol})
	}
	return converted
}
