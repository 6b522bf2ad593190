package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/internal/kube"
)

// byService indexes EndpointSlices by the Service they belong to.
const byService = "service"

// watch keeps the index equal to the cluster until ctx is done. Events come
// one at a time from each informer, and each recomputes one Service from what
// the informers hold, so their order does not matter.
func (s *Server) watch(ctx context.Context, client kubernetes.Interface) error {
	if err := kube.WaitReady(ctx, client); err != nil {
		return nil // asked to end before there was an API server
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim))
	services := factory.Core().V1().Services()
	endpoints := factory.Discovery().V1().EndpointSlices().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	if err := endpoints.AddIndexers(cache.Indexers{byService: sliceService}); err != nil {
		return fmt.Errorf("index endpoint slices: %w", err)
	}
	update := func(k key) { s.update(k, services.Lister(), endpoints.GetIndexer()) }
	_, err1 := services.Informer().AddEventHandler(onAny(func(o metaObject) { update(key{o.GetNamespace(), o.GetName()}) }))
	_, err2 := endpoints.AddEventHandler(onAny(func(o metaObject) {
		update(key{o.GetNamespace(), o.GetLabels()[discoveryv1.LabelServiceName]})
	}))
	_, err3 := namespaces.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.index.namespaces.Store(o.(*corev1.Namespace).Name, struct{}{}) },
		DeleteFunc: func(o any) { s.index.namespaces.Delete(nameOf(o)) },
	})
	if err := errors.Join(err1, err2, err3); err != nil {
		return fmt.Errorf("watch the cluster: %w", err)
	}
	factory.StartWithContext(ctx)
	if err := s.fillIndex(ctx, factory, services.Lister(), endpoints.GetIndexer()); err != nil {
		return err
	}
	<-ctx.Done()
	factory.Shutdown()
	return nil
}

// fillIndex waits for the first full lists and computes everything once more:
// a Service that came before its slices was computed without them.
func (s *Server) fillIndex(ctx context.Context, factory informers.SharedInformerFactory, services corelisters.ServiceLister, endpoints cache.Indexer) error {
	if err := factory.WaitForCacheSyncWithContext(ctx).AsError(); err != nil {
		if ctx.Err() != nil {
			return nil // asked to end before there was anything to know
		}
		return fmt.Errorf("read the cluster: %w", err)
	}
	all, err := services.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list services: %w", err)
	}
	for _, svc := range all {
		s.update(key{svc.Namespace, svc.Name}, services, endpoints)
	}
	s.synced.Store(true)
	slog.Info("ready", "services", len(all))
	return nil
}

// update recomputes one Service.
func (s *Server) update(k key, services corelisters.ServiceLister, endpoints cache.Indexer) {
	if k.name == "" {
		return // a slice that belongs to no Service
	}
	s.changes.Lock() // else an older reading could overwrite a newer one
	defer s.changes.Unlock()
	s.serial.Add(1)
	svc, err := services.Services(k.namespace).Get(k.name)
	if err != nil {
		s.index.set(k, nil)
		return
	}
	objects, err := endpoints.ByIndex(byService, k.namespace+"/"+k.name)
	if err != nil {
		slog.Error("endpoint slices not found by service", "service", k, "err", err)
		return
	}
	slicesOf := make([]*discoveryv1.EndpointSlice, 0, len(objects))
	for _, o := range objects {
		slicesOf = append(slicesOf, o.(*discoveryv1.EndpointSlice))
	}
	s.index.set(k, compute(svc, slicesOf))
}

func sliceService(object any) ([]string, error) {
	slice, ok := object.(*discoveryv1.EndpointSlice)
	if !ok || slice.Labels[discoveryv1.LabelServiceName] == "" {
		return nil, nil
	}
	return []string{slice.Namespace + "/" + slice.Labels[discoveryv1.LabelServiceName]}, nil
}

// metaObject is what add, update and delete have in common.
type metaObject interface {
	GetName() string
	GetNamespace() string
	GetLabels() map[string]string
}

// onAny calls f for every event; for a change with the object before it too,
// whose slice may have belonged to another Service.
func onAny(f func(metaObject)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) { f(o.(metaObject)) },
		UpdateFunc: func(before, after any) {
			old, now := before.(metaObject), after.(metaObject)
			if old.GetLabels()[discoveryv1.LabelServiceName] != now.GetLabels()[discoveryv1.LabelServiceName] {
				f(old)
			}
			f(now)
		},
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			if object, ok := o.(metaObject); ok {
				f(object)
			}
		},
	}
}

func nameOf(o any) string {
	if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	if object, ok := o.(metaObject); ok {
		return object.GetName()
	}
	return ""
}

// trim drops what no answer needs before an object is kept.
func trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetAnnotations(nil)
	}
	return object, nil
}
