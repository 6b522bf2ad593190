package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
)

// ownedPods is what all controllers which make pods have in common: they find their pods, create and
// delete them, and do not act again before the cache shows what they did.
type ownedPods struct {
	kind     schema.GroupVersionKind
	client   kubernetes.Interface
	cache    podCache
	events   record.EventRecorder
	created  *ownWrites
	deleting deletingPods
}

// owner is a ReplicaSet, a DaemonSet, a StatefulSet or a Job.
type owner interface {
	metav1.Object
	runtime.Object
}

func newOwnedPods(c *cluster, kind schema.GroupVersionKind, component string) *ownedPods {
	pods := c.pods()
	return &ownedPods{
		kind: kind, client: c.client, cache: pods, events: c.eventsFrom(component),
		created: newOwnWrites(pods.informer), deleting: deletingPods{uids: map[types.UID]bool{}},
	}
}

// watch calls changed with the key of every owner to which a changed pod matters; adopters names the
// owners which select a pod that nobody owns.
func (o *ownedPods) watch(changed func(key string), adopters func(pod *corev1.Pod) []string) {
	kube.OnChange(o.cache.informer, func(was, is *corev1.Pod) {
		if is == nil || is.DeletionTimestamp != nil {
			o.deleting.done(either(was, is).UID)
		}
		for _, pod := range []*corev1.Pod{was, is} {
			if pod == nil {
				continue
			}
			if controller := metav1.GetControllerOfNoCopy(pod); controller != nil && controller.Kind == o.kind.Kind {
				changed(cache.ObjectName{Namespace: pod.Namespace, Name: controller.Name}.String())
			}
		}
		if is != nil && metav1.GetControllerOfNoCopy(is) == nil {
			for _, key := range adopters(is) {
				changed(key)
			}
		}
	})
}

// selecting returns the keys of those owners whose selector matches the pod.
func selecting[T owner](owners []T, selector func(T) *metav1.LabelSelector, pod *corev1.Pod) []string {
	var keys []string
	for _, each := range owners {
		parsed, err := metav1.LabelSelectorAsSelector(selector(each))
		if err == nil && !parsed.Empty() && parsed.Matches(labels.Set(pod.Labels)) {
			keys = append(keys, keyOf(each))
		}
	}
	return keys
}

// claim returns the owner's pods among the candidates, after adopting and releasing what has to be.
func (o *ownedPods) claim(ctx context.Context, of owner, selector *metav1.LabelSelector, candidates []*corev1.Pod, live func(context.Context) (metav1.Object, error)) ([]*corev1.Pod, error) {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return nil, fmt.Errorf("read selector of %s %s: %w", o.kind.Kind, keyOf(of), err)
	}
	patch := func(ctx context.Context, namespace, name string, kind types.PatchType, data []byte) error {
		_, err := o.client.CoreV1().Pods(namespace).Patch(ctx, name, kind, data, metav1.PatchOptions{})
		return err
	}
	return planClaims(of, parsed, candidates).apply(ctx, of, o.kind, patch, live)
}

// going tells whether the pod is deleted, or was deleted by us a moment ago.
func (o *ownedPods) going(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || o.deleting.has(pod.UID)
}

func (o *ownedPods) create(ctx context.Context, of owner, pod *corev1.Pod, message func(name string) string) error {
	pod.Namespace = of.GetNamespace()
	pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(of, o.kind)}
	made, err := o.client.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	switch {
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil // nothing can be created here any more, and nothing needs to be
	case err != nil:
		o.events.Eventf(o.reference(of), corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		return fmt.Errorf("create pod of %s %s: %w", o.kind.Kind, keyOf(of), err)
	}
	o.created.wrote(keyOf(of), made)
	o.events.Event(o.reference(of), corev1.EventTypeNormal, "SuccessfulCreate", message(made.Name))
	slog.Info("created pod", "pod", keyOf(made), "owner", o.kind.Kind+"/"+of.GetName())
	return nil
}

func (o *ownedPods) delete(ctx context.Context, of owner, pod *corev1.Pod, message func(name string) string) error {
	if o.going(pod) {
		return nil
	}
	o.deleting.begin(pod.UID)
	err := o.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *metav1.NewPreconditionDeleteOptions(string(pod.UID)))
	if err != nil {
		o.deleting.done(pod.UID)
		if apierrors.IsNotFound(err) {
			return nil
		}
		o.events.Eventf(o.reference(of), corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("delete pod %s: %w", keyOf(pod), err)
	}
	o.events.Event(o.reference(of), corev1.EventTypeNormal, "SuccessfulDelete", message(pod.Name))
	slog.Info("deleted pod", "pod", keyOf(pod), "owner", o.kind.Kind+"/"+of.GetName())
	return nil
}

// reference is what events are about. A ReplicationController comes here as a ReplicaSet; its events say
// what it is.
func (o *ownedPods) reference(of owner) *corev1.ObjectReference {
	version, kind := o.kind.ToAPIVersionAndKind()
	return &corev1.ObjectReference{
		APIVersion: version, Kind: kind, Namespace: of.GetNamespace(), Name: of.GetName(), UID: of.GetUID(), ResourceVersion: of.GetResourceVersion(),
	}
}

func createdPod(name string) string { return "Created pod: " + name }
func deletedPod(name string) string { return "Deleted pod: " + name }

// forEach works on all items at once and joins what went wrong.
func forEach[T any](items []T, work func(T) error) error {
	errs := make([]error, len(items))
	var group sync.WaitGroup
	for i, item := range items {
		group.Go(func() { errs[i] = work(item) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// deletingPods remembers pods which were deleted, until the cache shows it. Such a pod counts as gone from
// the moment of the call; otherwise a second pass with an old cache might pick another victim.
type deletingPods struct {
	mu   sync.Mutex
	uids map[types.UID]bool
}

func (d *deletingPods) begin(uid types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.uids[uid] = true
}

func (d *deletingPods) done(uid types.UID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.uids, uid)
}

func (d *deletingPods) has(uid types.UID) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.uids[uid]
}
