package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/internal/kube"
)

// managedSlices are the EndpointSlices which one controller writes; the label
// endpointslice.kubernetes.io/managed-by says which. Those of others, such as the API server's own or a
// user's, are left alone.
type managedSlices struct {
	manager  string
	client   kubernetes.Interface
	informer cache.SharedIndexInformer
	written  *ownWrites
}

// byService indexes slices by manager and Service: "endpointslice-controller.k8s.io/default/web".
const byService = "service"

func (c *cluster) slicesOf(manager string) *managedSlices {
	informer := c.informers.Discovery().V1().EndpointSlices().Informer()
	if _, made := informer.GetIndexer().GetIndexers()[byService]; !made {
		// AddIndexers fails only on names which are taken, which was just ruled out.
		_ = informer.AddIndexers(cache.Indexers{byService: func(obj any) ([]string, error) {
			slice := obj.(*discoveryv1.EndpointSlice)
			return []string{slice.Labels[discoveryv1.LabelManagedBy] + "/" + serviceKeyOf(slice)}, nil
		}})
	}
	return &managedSlices{manager: manager, client: c.client, informer: informer, written: newOwnWrites(informer)}
}

// serviceKeyOf is the key of the Service to which a slice belongs.
func serviceKeyOf(slice *discoveryv1.EndpointSlice) string {
	return slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]
}

// watch calls changed with the key of the Service when one of our slices has changed, or one was taken
// from us by a change of its label.
func (m *managedSlices) watch(changed func(key string)) {
	kube.OnChange(m.informer, func(was, is *discoveryv1.EndpointSlice) {
		for _, slice := range []*discoveryv1.EndpointSlice{was, is} {
			if slice != nil && slice.Labels[discoveryv1.LabelManagedBy] == m.manager {
				changed(serviceKeyOf(slice))
			}
		}
	})
}

// of returns our slices of a Service.
func (m *managedSlices) of(key string) []*discoveryv1.EndpointSlice {
	objs, _ := m.informer.GetIndexer().ByIndex(byService, m.manager+"/"+key)
	var present []*discoveryv1.EndpointSlice
	for _, obj := range objs {
		if slice := obj.(*discoveryv1.EndpointSlice); slice.DeletionTimestamp == nil {
			present = append(present, slice)
		}
	}
	return present
}

// apply writes creations first, deletions last: an endpoint which moves from one slice to another is in
// both for a moment, never in none.
func (m *managedSlices) apply(ctx context.Context, key string, plan slicePlan, trigger time.Time) error {
	namespace, _ := splitKey(key)
	api := m.client.DiscoveryV1().EndpointSlices(namespace)
	for _, slice := range plan.create {
		setTriggerTime(slice, trigger)
		written, err := api.Create(ctx, slice, metav1.CreateOptions{})
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("create endpoint slice of service %s: %w", key, err)
		}
		m.written.wrote(key, written)
		slog.Info("created endpoint slice", "service", key, "slice", written.Name, "endpoints", len(written.Endpoints))
	}
	for _, slice := range plan.update {
		setTriggerTime(slice, trigger)
		written, err := api.Update(ctx, slice, metav1.UpdateOptions{})
		if err != nil {
			return fmt.Errorf("update endpoint slice %s: %w", slice.Name, err)
		}
		m.written.wrote(key, written)
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

// setTriggerTime notes since when what the slice shows is so.
func setTriggerTime(slice *discoveryv1.EndpointSlice, at time.Time) {
	annotations := map[string]string{}
	maps.Copy(annotations, slice.Annotations)
	delete(annotations, corev1.EndpointsLastChangeTriggerTime)
	if !at.IsZero() {
		annotations[corev1.EndpointsLastChangeTriggerTime] = at.UTC().Format(time.RFC3339Nano)
	}
	slice.Annotations = annotations
}
