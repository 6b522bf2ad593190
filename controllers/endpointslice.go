package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// endpointSliceController writes down which addresses are behind a Service: the pods which its selector
// selects, each with a note whether it is ready. kube-proxy and DNS read nothing else, they never look at
// pods.
//
//	endpointslice.go   the loop, and the writes
//	endpoint.go        pure: one pod as an endpoint; the ports of a Service on that pod
//	sliceplan.go       pure: the difference between the slices which are and which should be
type endpointSliceController struct {
	client   kubernetes.Interface
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	pods     podCache
	slices   cache.SharedIndexInformer
	events   record.EventRecorder
	queue    *reconcile.Queue[string]
	written  *ownWrites
	triggers triggerTimes
}

const (
	sliceManager  = "endpointslice-controller.k8s.io"
	byServiceName = "service"
)

func endpointSlices(c *cluster) loop {
	services, nodes := c.informers.Core().V1().Services(), c.informers.Core().V1().Nodes()
	slices := c.informers.Discovery().V1().EndpointSlices().Informer()
	// AddIndexers fails only on a name which is taken; nobody else uses this one.
	_ = slices.AddIndexers(cache.Indexers{byServiceName: func(obj any) ([]string, error) {
		slice := obj.(*discoveryv1.EndpointSlice)
		if slice.Labels[discoveryv1.LabelManagedBy] != sliceManager {
			return nil, nil // somebody else's, such as the API server's own
		}
		return []string{slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]}, nil
	}})
	e := &endpointSliceController{
		client: c.client, services: services.Lister(), nodes: nodes.Lister(), pods: c.pods(), slices: slices,
		events: c.eventsFrom("endpoint-slice-controller"), written: newOwnWrites(slices), triggers: triggerTimes{earliest: map[string]time.Time{}},
	}
	e.queue = reconcile.New("endpointslice", e.sync)
	kube.OnChange(services.Informer(), func(was, is *corev1.Service) {
		if was == nil {
			e.triggers.note(keyOf(is), is.CreationTimestamp.Time)
		}
		e.queue.Add(keyOf(either(was, is)))
	})
	kube.OnChange(slices, func(was, is *discoveryv1.EndpointSlice) {
		if slice := either(was, is); slice.Labels[discoveryv1.LabelManagedBy] == sliceManager || was != nil && was.Labels[discoveryv1.LabelManagedBy] == sliceManager {
			e.queue.Add(slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName])
		}
	})
	kube.OnChange(e.pods.informer, func(was, is *corev1.Pod) {
		if !endpointChanged(was, is) {
			return
		}
		for _, service := range servicesOf(e.services, was, is) {
			e.triggers.note(keyOf(service), podTriggerTime(either(was, is)))
			e.queue.Add(keyOf(service))
		}
	})
	return func(ctx context.Context) { e.queue.Run(ctx, 5) }
}

// servicesOf returns the Services which select the pod as it was or as it is.
func servicesOf(lister corelisters.ServiceLister, was, is *corev1.Pod) []*corev1.Service {
	all, _ := lister.Services(either(was, is).Namespace).List(everything)
	var selecting []*corev1.Service
	for _, service := range all {
		if len(service.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(service.Spec.Selector)
		if was != nil && selector.Matches(labels.Set(was.Labels)) || is != nil && selector.Matches(labels.Set(is.Labels)) {
			selecting = append(selecting, service)
		}
	}
	return selecting
}

func (e *endpointSliceController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	service, err := e.services.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		// The slices are owned by the Service, and go with it.
		e.written.forget(key)
		e.triggers.take(key)
		return nil
	}
	if err != nil || service.DeletionTimestamp != nil || len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
		// Without a selector, whoever made the Service writes its slices.
		return err
	}
	if !e.written.visible(key) {
		return nil // the event of the slice we wrote last brings us back
	}
	pods, err := e.pods.lister.Pods(namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return err
	}
	wanted, missing := desiredEndpoints(service, pods, e.nodes.Get)
	plan := planSlices(service, wanted, e.existing(key))
	if err := e.apply(ctx, service, plan, e.triggers.take(key)); err != nil {
		if !apierrors.IsConflict(err) {
			e.events.Eventf(service, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service %s: %v", key, err)
		}
		return err
	}
	return missing
}

func (e *endpointSliceController) existing(key string) []*discoveryv1.EndpointSlice {
	objs, _ := e.slices.GetIndexer().ByIndex(byServiceName, key)
	var existing []*discoveryv1.EndpointSlice
	for _, obj := range objs {
		if slice := obj.(*discoveryv1.EndpointSlice); slice.DeletionTimestamp == nil {
			existing = append(existing, slice)
		}
	}
	return existing
}

// apply writes creations first, deletions last: an endpoint which moves from one slice to another is in
// both for a moment, never in none.
func (e *endpointSliceController) apply(ctx context.Context, service *corev1.Service, plan slicePlan, trigger time.Time) error {
	key := keyOf(service)
	api := e.client.DiscoveryV1().EndpointSlices(service.Namespace)
	for _, slice := range plan.create {
		setTriggerTime(slice, trigger)
		written, err := api.Create(ctx, slice, metav1.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("create endpoint slice of service %s: %w", key, err)
		}
		e.written.wrote(key, written)
		slog.Info("created endpoint slice", "service", key, "slice", written.Name, "endpoints", len(written.Endpoints))
	}
	for _, slice := range plan.update {
		setTriggerTime(slice, trigger)
		written, err := api.Update(ctx, slice, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("update endpoint slice %s: %w", slice.Name, err)
		}
		e.written.wrote(key, written)
		slog.Info("updated endpoint slice", "service", key, "slice", written.Name, "endpoints", len(written.Endpoints))
	}
	var errs []error
	for _, slice := range plan.delete {
		err := api.Delete(ctx, slice.Name, *metav1.NewPreconditionDeleteOptions(string(slice.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete endpoint slice %s: %w", slice.Name, err))
		}
	}
	return errors.Join(errs...)
}

// triggerTimes remembers when the earliest change happened which a Service's slices do not show yet. It
// becomes the annotation endpoints.kubernetes.io/last-change-trigger-time, from which a proxy computes how
// long a change took from the pod to its rules (network_programming_duration_seconds).
type triggerTimes struct {
	mu       sync.Mutex
	earliest map[string]time.Time
}

func (t *triggerTimes) note(key string, at time.Time) {
	if at.IsZero() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if before, ok := t.earliest[key]; !ok || at.Before(before) {
		t.earliest[key] = at
	}
}

func (t *triggerTimes) take(key string) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.earliest[key]
	delete(t.earliest, key)
	return at
}

// podTriggerTime is when the pod last changed in a way that matters to a Service.
func podTriggerTime(pod *corev1.Pod) time.Time {
	if ready := podCondition(pod, corev1.PodReady); ready != nil {
		return ready.LastTransitionTime.Time
	}
	return pod.CreationTimestamp.Time
}

func setTriggerTime(slice *discoveryv1.EndpointSlice, at time.Time) {
	annotations := maps.Clone(slice.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	if !at.IsZero() {
		annotations[corev1.EndpointsLastChangeTriggerTime] = at.UTC().Format(time.RFC3339Nano)
	}
	slice.Annotations = annotations
}

// endpointChanged: did anything change that an endpoint shows? The kubelet writes a pod's status often.
func endpointChanged(was, is *corev1.Pod) bool {
	if was == nil || is == nil {
		return true
	}
	return podReady(was) != podReady(is) || (was.DeletionTimestamp == nil) != (is.DeletionTimestamp == nil) ||
		podFinished(was) != podFinished(is) || was.Spec.NodeName != is.Spec.NodeName ||
		was.Status.PodIP != is.Status.PodIP || !equality.Semantic.DeepEqual(was.Status.PodIPs, is.Status.PodIPs) ||
		!maps.Equal(was.Labels, is.Labels)
}
