package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// resourceType is a kind of object as discovery describes it.
type resourceType struct {
	schema.GroupVersionResource
	kind       string
	namespaced bool
}

// allResources watches every object of the cluster, of every kind which can be deleted, kinds made by
// CustomResourceDefinitions included. Two controllers need that: the garbage collector, because anything
// can own anything, and the namespace controller, because anything can be in a namespace.
//
// Only metadata is transferred and kept (the API server is asked for PartialObjectMetadata): who an object
// is, who owns it, which finalizers it has.
type allResources struct {
	cluster *cluster
	changed []func(kind resourceType, was, is *metav1.PartialObjectMetadata)

	mu      sync.Mutex
	watched map[resourceType]watchedType
	once    sync.Once
}

type watchedType struct {
	informer cache.SharedIndexInformer
	stop     context.CancelFunc
}

// notWatched change often, are never owners, and vanish by themselves.
var notWatched = []schema.GroupResource{{Resource: "events"}, {Group: "events.k8s.io", Resource: "events"}}

func newAllResources(c *cluster) *allResources {
	return &allResources{cluster: c, watched: map[resourceType]watchedType{}}
}

// onChange registers a function for every change of every object; to be called before run.
func (a *allResources) onChange(changed func(kind resourceType, was, is *metav1.PartialObjectMetadata)) {
	a.changed = append(a.changed, changed)
}

// run discovers kinds, watches them, and discovers again when a definition of kinds has changed. It does
// not wait. Both controllers call it, the second call does nothing.
func (a *allResources) run(ctx context.Context) {
	a.once.Do(func() {
		queue := reconcile.New("all-resources", func(ctx context.Context, _ struct{}) error { return a.refresh(ctx) })
		a.onChange(func(kind resourceType, was, is *metav1.PartialObjectMetadata) {
			definesKinds := kind.Group == "apiextensions.k8s.io" || kind.Group == "apiregistration.k8s.io"
			if definesKinds && (was == nil || is == nil || was.Generation != is.Generation) {
				// The API server serves a new kind a moment after its definition was written.
				queue.Add(struct{}{})
				queue.AddAfter(struct{}{}, time.Second)
			}
		})
		queue.Add(struct{}{})
		go queue.Run(ctx, 1)
	})
}

func (a *allResources) refresh(ctx context.Context) error {
	present, err := discoverDeletable(a.cluster.discovery)
	if err != nil {
		return err
	}
	a.mu.Lock()
	for kind, watched := range a.watched {
		if !slices.Contains(present, kind) {
			watched.stop()
			delete(a.watched, kind)
			slog.Debug("kind is gone", "kind", kind.GroupVersionResource)
		}
	}
	for _, kind := range present {
		if _, ok := a.watched[kind]; !ok {
			a.watch(ctx, kind)
		}
	}
	a.mu.Unlock()
	slog.Debug("watching metadata", "kinds", len(present))
	return nil
}

// watch begins to watch one kind. a.mu is held.
func (a *allResources) watch(ctx context.Context, kind resourceType) {
	ctx, stop := context.WithCancel(ctx)
	informer := metadatainformer.NewFilteredMetadataInformer(a.cluster.metadata, kind.GroupVersionResource, metav1.NamespaceAll, 0, cache.Indexers{}, nil).Informer()
	// SetTransform fails only on a started informer.
	_ = informer.SetTransform(trimMetadata)
	kube.OnChange(informer, func(was, is *metav1.PartialObjectMetadata) {
		for _, changed := range a.changed {
			changed(kind, was, is)
		}
	})
	a.watched[kind] = watchedType{informer, stop}
	go informer.RunWithContext(ctx)
}

// trimMetadata keeps identity, owners and finalizers.
func trimMetadata(obj any) (any, error) {
	if object, ok := obj.(*metav1.PartialObjectMetadata); ok {
		object.ManagedFields, object.Annotations, object.Labels = nil, nil, nil
	}
	return obj, nil
}

// synced tells whether every kind has been read completely at least once.
func (a *allResources) synced() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, watched := range a.watched {
		if !watched.informer.HasSynced() {
			return false
		}
	}
	return len(a.watched) > 0
}

// find returns the type which serves a kind, as an owner reference names it.
func (a *allResources) find(apiVersion, kind string) (resourceType, error) {
	version, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		return resourceType{}, fmt.Errorf("read apiVersion %q: %w", apiVersion, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for present := range a.watched {
		if present.Group == version.Group && present.kind == kind {
			present.Version = version.Version // any version will do to look the owner up
			return present, nil
		}
	}
	return resourceType{}, &meta.NoKindMatchError{GroupKind: schema.GroupKind{Group: version.Group, Kind: kind}, SearchedVersions: []string{version.Version}}
}

// discoverDeletable asks the API server for all kinds, each in its preferred version, which can be listed,
// watched and deleted. A group which does not answer is an error: its objects must not be forgotten.
func discoverDeletable(client discovery.DiscoveryInterface) ([]resourceType, error) {
	lists, err := discovery.ServerPreferredResources(client)
	if err != nil {
		return nil, fmt.Errorf("discover kinds: %w", err)
	}
	var types []resourceType
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, fmt.Errorf("read group version %q: %w", list.GroupVersion, err)
		}
		for _, resource := range list.APIResources {
			verbs := []string(resource.Verbs)
			if !slices.Contains(verbs, "list") || !slices.Contains(verbs, "watch") || !slices.Contains(verbs, "delete") ||
				slices.Contains(notWatched, schema.GroupResource{Group: version.Group, Resource: resource.Name}) {
				continue
			}
			types = append(types, resourceType{version.WithResource(resource.Name), resource.Kind, resource.Namespaced})
		}
	}
	return types, nil
}
