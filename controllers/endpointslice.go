package controllers

import (
	"context"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// endpointSliceController writes down which addresses are behind a Service: the pods which its selector
// selects, each with a note whether it is ready. kube-proxy and DNS read nothing else, they never look at
// pods.
//
//	endpointslice.go   the loop
//	endpoint.go        pure: one pod as an endpoint; the ports of a Service on that pod
//	sliceplan.go       pure: the difference between the slices which are and which should be
//	managedslices.go   reads and writes slices
type endpointSliceController struct {
	services corelisters.ServiceLister
	nodes    corelisters.NodeLister
	pods     podCache
	slices   *managedSlices
	events   record.EventRecorder
	queue    *reconcile.Queue[string]
	triggers triggerTimes
}

const sliceManager = "endpointslice-controller.k8s.io"

func endpointSlices(c *cluster) loop {
	services, nodes := c.informers.Core().V1().Services(), c.informers.Core().V1().Nodes()
	e := &endpointSliceController{
		services: services.Lister(), nodes: nodes.Lister(), pods: c.pods(), slices: c.slicesOf(sliceManager),
		events: c.eventsFrom("endpoint-slice-controller"), triggers: triggerTimes{earliest: map[string]time.Time{}},
	}
	e.queue = reconcile.New("endpointslice", e.sync)
	kube.OnChange(services.Informer(), func(was, is *corev1.Service) {
		if was == nil {
			e.triggers.note(keyOf(is), is.CreationTimestamp.Time)
		}
		e.queue.Add(keyOf(either(was, is)))
	})
	e.slices.watch(e.queue.Add)
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
		e.slices.written.forget(key)
		e.triggers.take(key)
		return nil
	}
	if err != nil || service.DeletionTimestamp != nil || len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
		// Without a selector, whoever made the Service writes its slices.
		return err
	}
	if !e.slices.written.visible(key) {
		return nil // the event of the slice we wrote last brings us back
	}
	pods, err := e.pods.lister.Pods(namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return err
	}
	wanted, missing := desiredEndpoints(service, pods, e.nodes.Get)
	plan := planSlices(sourceOf(service), wanted, e.slices.of(key))
	if err := e.slices.apply(ctx, key, plan, e.triggers.take(key)); err != nil {
		if !apierrors.IsConflict(err) {
			e.events.Eventf(service, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices", "Error updating Endpoint Slices for Service %s: %v", key, err)
		}
		return err
	}
	return missing
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
