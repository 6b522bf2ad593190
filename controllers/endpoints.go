package controllers

import (
	"context"
	"fmt"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// Endpoints is the older, deprecated form of EndpointSlices: one object per Service with all addresses.
// kubectl and many tools still read it.
const (
	endpointsManagerLabel = "endpoints.kubernetes.io/managed-by"
	endpointsManager      = "endpoint-controller"
	maxEndpointsAddresses = 1000
)

type endpointsController struct {
	client    kubernetes.Interface
	services  corelisters.ServiceLister
	endpoints corelisters.EndpointsLister
	pods      podCache
	triggers  triggerTimes
}

func endpoints(c *cluster) loop {
	services, informer := c.informers.Core().V1().Services(), c.informers.Core().V1().Endpoints()
	e := &endpointsController{
		client: c.client, services: services.Lister(), endpoints: informer.Lister(), pods: c.pods(),
		triggers: triggerTimes{earliest: map[string]time.Time{}},
	}
	queue := reconcile.New("endpoints", e.sync)
	kube.OnChange(services.Informer(), func(was, is *corev1.Service) {
		if was == nil {
			e.triggers.note(keyOf(is), is.CreationTimestamp.Time)
		}
		queue.Add(keyOf(either(was, is)))
	})
	kube.OnChange(informer.Informer(), func(was, is *corev1.Endpoints) {
		if is == nil {
			queue.Add(keyOf(was)) // somebody deleted it; a change by hand is mended at the next change of a pod
		}
	})
	kube.OnChange(e.pods.informer, func(was, is *corev1.Pod) {
		if !endpointChanged(was, is) {
			return
		}
		for _, service := range servicesOf(e.services, was, is) {
			e.triggers.note(keyOf(service), podTriggerTime(either(was, is)))
			queue.Add(keyOf(service))
		}
	})
	return func(ctx context.Context) { queue.Run(ctx, 5) }
}

func (e *endpointsController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	service, err := e.services.Services(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		// Endpoints have no owner reference; they are deleted by name.
		e.triggers.take(key)
		err := e.client.CoreV1().Endpoints(namespace).Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete endpoints %s: %w", key, err)
		}
		return nil
	}
	if err != nil || len(service.Spec.Selector) == 0 || service.Spec.Type == corev1.ServiceTypeExternalName {
		return err
	}
	pods, err := e.pods.lister.Pods(namespace).List(labels.SelectorFromSet(service.Spec.Selector))
	if err != nil {
		return err
	}
	wanted := desiredEndpointsObject(service, pods)
	trigger := e.triggers.take(key)
	present, err := e.endpoints.Endpoints(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return e.create(ctx, wanted, trigger)
	}
	if err != nil || equality.Semantic.DeepEqual(present.Subsets, wanted.Subsets) && maps.Equal(present.Labels, wanted.Labels) &&
		present.Annotations[corev1.EndpointsOverCapacity] == wanted.Annotations[corev1.EndpointsOverCapacity] {
		return err
	}
	changed := present.DeepCopy()
	changed.Subsets, changed.Labels = wanted.Subsets, wanted.Labels
	annotateEndpoints(changed, wanted.Annotations[corev1.EndpointsOverCapacity], trigger)
	if _, err := e.client.CoreV1().Endpoints(namespace).Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update endpoints %s: %w", key, err)
	}
	return nil
}

func (e *endpointsController) create(ctx context.Context, wanted *corev1.Endpoints, trigger time.Time) error {
	annotateEndpoints(wanted, wanted.Annotations[corev1.EndpointsOverCapacity], trigger)
	_, err := e.client.CoreV1().Endpoints(wanted.Namespace).Create(ctx, wanted, metav1.CreateOptions{})
	if err != nil && !apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create endpoints %s: %w", keyOf(wanted), err)
	}
	return nil
}

func annotateEndpoints(object *corev1.Endpoints, overCapacity string, trigger time.Time) {
	annotations := maps.Clone(object.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	delete(annotations, corev1.EndpointsOverCapacity)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	if overCapacity != "" {
		annotations[corev1.EndpointsOverCapacity] = overCapacity
	}
	if !trigger.IsZero() {
		annotations[corev1.EndpointsLastChangeTriggerTime] = trigger.UTC().Format(time.RFC3339Nano)
	}
	object.Annotations = annotations
}
