package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/metadata"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// namespaceDeleter empties namespaces which are to go away. `kubectl delete namespace shop` only marks the
// namespace (phase Terminating; the API server refuses new objects in it); this controller deletes all
// objects of all kinds there, and when the last one is gone, takes away the finalizer "kubernetes", which
// has held the namespace until then.
type namespaceDeleter struct {
	client   kubernetes.Interface
	metadata metadata.Interface
	lister   corelisters.NamespaceLister
	discover func() ([]resourceType, error)
	queue    *reconcile.Queue[string]
}

func namespaces(c *cluster) loop {
	informer := c.informers.Core().V1().Namespaces()
	n := &namespaceDeleter{
		client: c.client, metadata: c.metadata, lister: informer.Lister(),
		discover: func() ([]resourceType, error) { return discoverDeletable(c.discovery) },
	}
	n.queue = reconcile.New("namespace", n.sync)
	kube.OnChange(informer.Informer(), func(_, is *corev1.Namespace) {
		if is != nil && is.DeletionTimestamp != nil {
			n.queue.Add(is.Name)
		}
	})
	// Pods take their time to end. Each object which disappears from a namespace in deletion is a reason to
	// look whether it was the last.
	c.resources.onChange(func(_ resourceType, was, is *metav1.PartialObjectMetadata) {
		if is != nil || was.Namespace == "" {
			return
		}
		if namespace, err := n.lister.Get(was.Namespace); err == nil && namespace.DeletionTimestamp != nil {
			n.queue.Add(was.Namespace)
		}
	})
	return func(ctx context.Context) {
		c.resources.run(ctx)
		n.queue.Run(ctx, 4)
	}
}

// remains is what is left in a namespace, for people to read in its conditions.
type remains struct {
	objects    map[string]int // "pods." → 2
	finalizers map[string]int // "example.com/hold" → 1
	errs       []error
}

func (n *namespaceDeleter) sync(ctx context.Context, name string) error {
	namespace, err := n.lister.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || namespace.DeletionTimestamp == nil || !slices.Contains(namespace.Spec.Finalizers, corev1.FinalizerKubernetes) {
		return err
	}
	kinds, discoveryErr := n.discover()
	left := n.emptyAll(ctx, name, kinds)
	err = errors.Join(append(left.errs, discoveryErr)...)
	if writeErr := n.writeConditions(ctx, namespace, namespaceConditions(discoveryErr, left)); writeErr != nil {
		return writeErr
	}
	if err != nil {
		return err
	}
	if len(left.objects) > 0 {
		slog.Debug("namespace is not empty yet", "namespace", name, "left", left.objects)
		n.queue.AddAfter(name, 5*time.Second) // in case the last event was ours to miss
		return nil
	}
	return n.finalize(ctx, namespace)
}

// emptyAll deletes the pods, and the rest when no pod is left: until then a pod that ends has its NetworkPolicies
// and Secrets (KEP-5080).
func (n *namespaceDeleter) emptyAll(ctx context.Context, namespace string, kinds []resourceType) remains {
	left := remains{objects: map[string]int{}, finalizers: map[string]int{}}
	n.empty(ctx, namespace, podType, &left)
	if len(left.objects) > 0 || len(left.errs) > 0 {
		return left
	}
	for _, kind := range kinds {
		if kind.namespaced && kind.GroupVersionResource != podType.GroupVersionResource {
			n.empty(ctx, namespace, kind, &left)
		}
	}
	return left
}

var podType = resourceType{GroupVersionResource: corev1.SchemeGroupVersion.WithResource("pods"), kind: "Pod", namespaced: true}

// empty deletes all objects of one kind, and counts those which are still there.
func (n *namespaceDeleter) empty(ctx context.Context, namespace string, kind resourceType, left *remains) {
	api := n.metadata.Resource(kind.GroupVersionResource).Namespace(namespace)
	list, err := api.List(ctx, metav1.ListOptions{})
	if err != nil {
		if !apierrors.IsNotFound(err) && !apierrors.IsMethodNotSupported(err) {
			left.errs = append(left.errs, fmt.Errorf("list %s in namespace %s: %w", kind.Resource, namespace, err))
		}
		return
	}
	background := metav1.DeletePropagationBackground
	for _, object := range list.Items {
		if object.DeletionTimestamp == nil {
			err := api.Delete(ctx, object.Name, metav1.DeleteOptions{PropagationPolicy: &background})
			if err != nil && !apierrors.IsNotFound(err) {
				left.errs = append(left.errs, fmt.Errorf("delete %s %s/%s: %w", kind.Resource, namespace, object.Name, err))
			}
		}
	}
	if len(list.Items) == 0 {
		return
	}
	if list, err = api.List(ctx, metav1.ListOptions{}); err != nil {
		left.errs = append(left.errs, fmt.Errorf("list %s in namespace %s: %w", kind.Resource, namespace, err))
		return
	}
	for _, object := range list.Items {
		left.objects[kind.Resource+"."+kind.Group]++
		for _, finalizer := range object.Finalizers {
			left.finalizers[finalizer]++
		}
	}
}

// namespaceConditions tell in upstream's words what stands in the way.
func namespaceConditions(discoveryErr error, left remains) []corev1.NamespaceCondition {
	conditions := []corev1.NamespaceCondition{
		{Type: corev1.NamespaceDeletionDiscoveryFailure, Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: corev1.NamespaceDeletionGVParsingFailure, Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: corev1.NamespaceDeletionContentFailure, Reason: "ContentDeleted", Message: "All content successfully deleted, may be waiting on finalization"},
		{Type: corev1.NamespaceContentRemaining, Reason: "ContentRemoved", Message: "All content successfully removed"},
		{Type: corev1.NamespaceFinalizersRemaining, Reason: "ContentHasNoFinalizers", Message: "All content-preserving finalizers finished"},
	}
	for i := range conditions {
		conditions[i].Status = corev1.ConditionFalse
	}
	set := func(i int, reason, message string) {
		conditions[i].Status, conditions[i].Reason, conditions[i].Message = corev1.ConditionTrue, reason, message
	}
	if discoveryErr != nil {
		set(0, "DiscoveryFailed", "Discovery failed for some groups: "+discoveryErr.Error())
	}
	if err := errors.Join(left.errs...); err != nil {
		set(2, "ContentDeletionFailed", "Failed to delete all resource types, "+err.Error())
	}
	if len(left.objects) > 0 {
		set(3, "SomeResourcesRemain", "Some resources are remaining: "+counted(left.objects, "%s has %d resource instances"))
	}
	if len(left.finalizers) > 0 {
		set(4, "SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: "+counted(left.finalizers, "%s in %d resource instances"))
	}
	return conditions
}

func counted(counts map[string]int, format string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf(format, name, counts[name]))
	}
	return strings.Join(parts, ", ")
}

// writeConditions writes conditions which are new or have changed. Those which tell of no trouble are not
// written when there was none before: most namespaces go away in one pass.
func (n *namespaceDeleter) writeConditions(ctx context.Context, namespace *corev1.Namespace, conditions []corev1.NamespaceCondition) error {
	trouble := slices.ContainsFunc(conditions, func(c corev1.NamespaceCondition) bool { return c.Status == corev1.ConditionTrue })
	if !trouble && len(namespace.Status.Conditions) == 0 {
		return nil
	}
	changed := namespace.DeepCopy()
	for _, condition := range conditions {
		condition.LastTransitionTime = metav1.Now()
		i := slices.IndexFunc(changed.Status.Conditions, func(c corev1.NamespaceCondition) bool { return c.Type == condition.Type })
		if i < 0 {
			changed.Status.Conditions = append(changed.Status.Conditions, condition)
			continue
		}
		if changed.Status.Conditions[i].Status == condition.Status {
			condition.LastTransitionTime = changed.Status.Conditions[i].LastTransitionTime
		}
		changed.Status.Conditions[i] = condition
	}
	if equality.Semantic.DeepEqual(changed.Status, namespace.Status) {
		return nil
	}
	_, err := n.client.CoreV1().Namespaces().UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write conditions of namespace %s: %w", namespace.Name, err)
	}
	return nil
}

func (n *namespaceDeleter) finalize(ctx context.Context, namespace *corev1.Namespace) error {
	live, err := n.client.CoreV1().Namespaces().Get(ctx, namespace.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) || err == nil && live.UID != namespace.UID {
		return nil
	}
	if err != nil {
		return fmt.Errorf("get namespace %s: %w", namespace.Name, err)
	}
	live.Spec.Finalizers = slices.DeleteFunc(live.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if _, err := n.client.CoreV1().Namespaces().Finalize(ctx, live, metav1.UpdateOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("finalize namespace %s: %w", namespace.Name, err)
	}
	slog.Info("namespace is empty and gone", "namespace", namespace.Name)
	return nil
}
