package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/reconcile"
)

// collector deletes objects whose owners are gone. Deleting a Deployment deletes one object; the
// ReplicaSets follow because their owner is gone, then the pods, because theirs are. How, is said with the
// deletion (`kubectl delete --cascade=…`):
//
//	background   the owner goes at once, what it owned follows
//	foreground   the owner stays, with the finalizer foregroundDeletion, until what it owned is gone
//	orphan       the owner stays, with the finalizer orphan, until the references to it are taken away
//
// gcgraph.go is the picture of the cluster and the policy; this file asks and acts.
type collector struct {
	metadata  metadata.Interface
	resources *allResources
	graph     *ownerGraph
	events    record.EventRecorder
	queue     *reconcile.Queue[types.UID]
}

func garbageCollector(c *cluster) loop {
	g := &collector{metadata: c.metadata, resources: c.resources, graph: newOwnerGraph(), events: c.eventsFrom("garbage-collector-controller")}
	g.queue = reconcile.New("garbage-collector", g.sync)
	c.resources.onChange(g.changed)
	return func(ctx context.Context) {
		c.resources.run(ctx)
		g.queue.Run(ctx, 4)
	}
}

// changed updates the graph, and queues those to whom the change may matter: the object itself, and when it
// is going or gone, its dependents, and its owners, who may wait for it.
func (g *collector) changed(kind resourceType, was, is *metav1.PartialObjectMetadata) {
	object := either(was, is)
	if is == nil {
		g.graph.remove(was.UID)
	} else {
		g.graph.set(kind, is)
		if len(is.OwnerReferences) > 0 || is.DeletionTimestamp != nil {
			g.queue.Add(is.UID)
		}
	}
	if is == nil || is.DeletionTimestamp != nil {
		for _, dependent := range g.graph.dependentsOf(object.UID) {
			g.queue.Add(dependent.meta.UID)
		}
	}
	if is == nil || was != nil {
		for _, owner := range was.OwnerReferences {
			if known, ok := g.graph.get(owner.UID); ok && known.meta.DeletionTimestamp != nil {
				g.queue.Add(owner.UID)
			}
		}
	}
}

func (g *collector) sync(ctx context.Context, uid types.UID) error {
	if !g.resources.synced() {
		// While a kind has not been read, its objects look as if they were gone.
		g.queue.AddAfter(uid, 20*time.Millisecond)
		return nil
	}
	object, ok := g.graph.get(uid)
	if !ok {
		return nil
	}
	switch {
	case orphaning(object.meta):
		return g.orphan(ctx, object)
	case inForeground(object.meta):
		return g.finishForeground(ctx, object)
	case object.meta.DeletionTimestamp != nil:
		return nil // on its way already
	}
	return g.collect(ctx, object)
}

// collect looks at the owners of an object, as the API server knows them.
func (g *collector) collect(ctx context.Context, object *graphObject) error {
	var states []ownerState
	var gone []types.UID
	for _, owner := range object.meta.OwnerReferences {
		state, err := g.ownerState(ctx, object, owner)
		if err != nil {
			return err
		}
		states = append(states, state)
		if state != ownerLives {
			gone = append(gone, owner.UID)
		}
	}
	switch judge(states) {
	case unlinkIt:
		return g.removeOwners(ctx, object, gone)
	case deleteIt:
		waiting := slices.Contains(states, ownerWaiting)
		if waiting && closesCircle(object, g.graph.dependentsOf(object.meta.UID)) {
			return g.unblockOwners(ctx, object)
		}
		return g.delete(ctx, object, waiting)
	}
	return nil
}

// ownerState asks the graph, and when the graph does not know the owner, the API server.
func (g *collector) ownerState(ctx context.Context, object *graphObject, owner metav1.OwnerReference) (ownerState, error) {
	if known, ok := g.graph.get(owner.UID); ok {
		if known.kind.namespaced && known.meta.Namespace != object.meta.Namespace {
			return ownerGone, nil // an owner in another namespace is none
		}
		if inForeground(known.meta) {
			return ownerWaiting, nil
		}
		return ownerLives, nil
	}
	kind, err := g.resources.find(owner.APIVersion, owner.Kind)
	if meta.IsNoMatchError(err) {
		slog.Debug("owner is of an unknown kind", "object", keyOf(object.meta), "owner", owner.Kind+"/"+owner.Name)
		return ownerLives, nil // we cannot tell, so we do nothing
	}
	if err != nil {
		return 0, err
	}
	if kind.namespaced && object.meta.Namespace == "" {
		g.events.Eventf(object.reference(), corev1.EventTypeWarning, "OwnerRefInvalidNamespace",
			"ownerRef [%s/%s, namespace: , name: %s, uid: %s] does not exist in namespace %q", owner.APIVersion, owner.Kind, owner.Name, owner.UID, "")
		return ownerLives, nil
	}
	live, err := g.metadata.Resource(kind.GroupVersionResource).Namespace(namespaceOf(kind, object.meta)).Get(ctx, owner.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return ownerGone, nil
	case err != nil:
		return 0, fmt.Errorf("look up owner %s %s: %w", owner.Kind, owner.Name, err)
	case live.UID != owner.UID:
		return ownerGone, nil // another object of the same name
	case inForeground(live):
		return ownerWaiting, nil
	}
	return ownerLives, nil
}

func namespaceOf(kind resourceType, dependent metav1.Object) string {
	if kind.namespaced {
		return dependent.GetNamespace()
	}
	return ""
}

func (o *graphObject) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: o.kind.GroupVersion().String(), Kind: o.kind.kind, Namespace: o.meta.Namespace, Name: o.meta.Name, UID: o.meta.UID}
}

func (g *collector) api(object *graphObject) metadata.ResourceInterface {
	return g.metadata.Resource(object.kind.GroupVersionResource).Namespace(namespaceOf(object.kind, object.meta))
}

// delete deletes an object without owners. In a foreground deletion the object's own dependents go first as
// well. UID and resourceVersion see to it that nothing is deleted which has just been adopted.
func (g *collector) delete(ctx context.Context, object *graphObject, foreground bool) error {
	policy := metav1.DeletePropagationBackground
	switch {
	case slices.Contains(object.meta.Finalizers, metav1.FinalizerOrphanDependents):
		policy = metav1.DeletePropagationOrphan
	case slices.Contains(object.meta.Finalizers, metav1.FinalizerDeleteDependents),
		foreground && len(g.graph.dependentsOf(object.meta.UID)) > 0:
		policy = metav1.DeletePropagationForeground
	}
	err := g.api(object).Delete(ctx, object.meta.Name, metav1.DeleteOptions{
		PropagationPolicy: &policy,
		Preconditions:     &metav1.Preconditions{UID: &object.meta.UID, ResourceVersion: &object.meta.ResourceVersion},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("collect %s %s: %w", object.kind.Resource, keyOf(object.meta), err)
	}
	slog.Info("collected", "kind", object.kind.kind, "object", keyOf(object.meta), "propagation", policy)
	return nil
}

// removeOwners takes references to owners out of an object.
func (g *collector) removeOwners(ctx context.Context, object *graphObject, owners []types.UID) error {
	rest := slices.DeleteFunc(slices.Clone(object.meta.OwnerReferences), func(r metav1.OwnerReference) bool { return slices.Contains(owners, r.UID) })
	if len(rest) == len(object.meta.OwnerReferences) {
		return nil
	}
	return g.patch(ctx, object, "ownerReferences", rest)
}

// unblockOwners lets the owners of an object go without it. The change comes back by the watch, and the object
// is deleted then.
func (g *collector) unblockOwners(ctx context.Context, object *graphObject) error {
	refs := slices.Clone(object.meta.OwnerReferences)
	for i := range refs {
		refs[i].BlockOwnerDeletion = new(bool)
	}
	slog.Info("unblocked owners in a circle", "kind", object.kind.kind, "object", keyOf(object.meta))
	return g.patch(ctx, object, "ownerReferences", refs)
}

// patch replaces one list in an object's metadata, unless the object has changed since we saw it.
func (g *collector) patch(ctx context.Context, object *graphObject, field string, value any) error {
	patch := mustJSON(map[string]any{"metadata": map[string]any{"uid": object.meta.UID, "resourceVersion": object.meta.ResourceVersion, field: value}})
	_, err := g.api(object).Patch(ctx, object.meta.Name, merge, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("patch %s of %s %s: %w", field, object.kind.Resource, keyOf(object.meta), err)
	}
	return nil
}

// orphan frees the dependents of an object, then lets it go.
func (g *collector) orphan(ctx context.Context, object *graphObject) error {
	var errs []error
	for _, dependent := range g.graph.dependentsOf(object.meta.UID) {
		errs = append(errs, g.removeOwners(ctx, dependent, []types.UID{object.meta.UID}))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return g.removeFinalizer(ctx, object, metav1.FinalizerOrphanDependents)
}

// finishForeground lets an object go when nobody is left for whom it waits; else it sees to those.
func (g *collector) finishForeground(ctx context.Context, object *graphObject) error {
	dependents := g.graph.dependentsOf(object.meta.UID)
	for _, dependent := range dependents {
		if dependent.meta.DeletionTimestamp == nil {
			g.queue.Add(dependent.meta.UID)
		}
	}
	if len(blockers(object.meta.UID, dependents)) > 0 {
		return nil // each of them wakes us when it is gone
	}
	return g.removeFinalizer(ctx, object, metav1.FinalizerDeleteDependents)
}

func (g *collector) removeFinalizer(ctx context.Context, object *graphObject, finalizer string) error {
	rest := slices.DeleteFunc(slices.Clone(object.meta.Finalizers), func(f string) bool { return f == finalizer })
	return g.patch(ctx, object, "finalizers", rest)
}
