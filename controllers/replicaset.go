package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// maxAtOnce bounds the pods which are created or deleted in one go; the rest follows when the cache has
// seen them.
const maxAtOnce = 500

// replicaSetController keeps spec.replicas pods of a template running. A ReplicationController, the
// ReplicaSet's older sister, is the same with a simpler selector; replicationcontroller.go shows it to
// this code as a ReplicaSet.
type replicaSetController struct {
	kind   schema.GroupVersionKind
	source replicaSource
	client kubernetes.Interface
	pods   podCache
	events record.EventRecorder
	queue  *reconcile.Queue[string]

	created  *ownWrites
	deleting deletingPods
}

// replicaSource is where ReplicaSets come from and where their status goes: the API's ReplicaSets, or
// its ReplicationControllers.
type replicaSource struct {
	cached      func(namespace, name string) (*appsv1.ReplicaSet, error)
	list        func(namespace string) []*appsv1.ReplicaSet
	live        func(ctx context.Context, namespace, name string) (metav1.Object, error)
	writeStatus func(ctx context.Context, rs *appsv1.ReplicaSet) error
}

func replicaSets(c *cluster) loop {
	sets := c.informers.Apps().V1().ReplicaSets()
	lister := sets.Lister()
	api := c.client.AppsV1()
	r := newReplicaSetController(c, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"), "replicaset-controller", replicaSource{
		cached: func(namespace, name string) (*appsv1.ReplicaSet, error) {
			return lister.ReplicaSets(namespace).Get(name)
		},
		list: func(namespace string) []*appsv1.ReplicaSet {
			all, _ := lister.ReplicaSets(namespace).List(everything)
			return all
		},
		live: func(ctx context.Context, namespace, name string) (metav1.Object, error) {
			return api.ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
		},
		writeStatus: func(ctx context.Context, rs *appsv1.ReplicaSet) error {
			_, err := api.ReplicaSets(rs.Namespace).UpdateStatus(ctx, rs, metav1.UpdateOptions{})
			return err
		},
	})
	kube.OnChange(sets.Informer(), func(was, is *appsv1.ReplicaSet) { r.queue.Add(keyOf(either(was, is))) })
	return r.run
}

func newReplicaSetController(c *cluster, kind schema.GroupVersionKind, component string, source replicaSource) *replicaSetController {
	pods := c.pods()
	r := &replicaSetController{
		kind: kind, source: source, client: c.client, pods: pods, events: c.eventsFrom(component),
		created: newOwnWrites(pods.informer), deleting: deletingPods{uids: map[types.UID]bool{}},
	}
	r.queue = reconcile.New(component, r.sync)
	kube.OnChange(pods.informer, r.podChanged)
	return r
}

func (r *replicaSetController) run(ctx context.Context) { r.queue.Run(ctx, 5) }

// podChanged finds the ReplicaSets to which a changed pod matters: the one which owns or owned it, and
// when nobody owns it, all which could adopt it.
func (r *replicaSetController) podChanged(was, is *corev1.Pod) {
	if is == nil || is.DeletionTimestamp != nil {
		r.deleting.done(either(was, is).UID)
	}
	owned := false
	for _, pod := range []*corev1.Pod{was, is} {
		if pod == nil {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(pod); owner != nil {
			owned = pod == is
			if owner.Kind == r.kind.Kind {
				r.queue.Add(cache.ObjectName{Namespace: pod.Namespace, Name: owner.Name}.String())
			}
		}
	}
	if is == nil || owned {
		return
	}
	for _, rs := range r.source.list(is.Namespace) {
		selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(is.Labels)) {
			r.queue.Add(keyOf(rs))
		}
	}
}

func (r *replicaSetController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	rs, err := r.source.cached(namespace, name)
	if apierrors.IsNotFound(err) {
		r.created.forget(key)
		return nil
	}
	if err != nil {
		return err
	}
	if !r.created.visible(key) {
		return nil // the event of the pod we created last brings us back
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		slog.Warn("invalid selector", "kind", r.kind.Kind, "name", key, "err", err)
		return nil
	}
	pods, err := r.claim(ctx, rs, selector)
	if err != nil {
		return err
	}
	var scaleErr error
	if rs.DeletionTimestamp == nil {
		scaleErr = r.scale(ctx, rs, pods)
	}
	now := time.Now()
	status, again := replicaSetStatus(rs, pods, scaleErr, now)
	if r.kind.Kind == "ReplicationController" {
		status.TerminatingReplicas = nil // its status has no such field
	}
	if again > 0 {
		r.queue.AddAfter(key, again)
	}
	return errors.Join(scaleErr, r.writeStatus(ctx, rs, status))
}

func (r *replicaSetController) claim(ctx context.Context, rs *appsv1.ReplicaSet, selector labels.Selector) ([]*corev1.Pod, error) {
	var candidates []*corev1.Pod
	for _, pod := range r.pods.ownedBy(rs) {
		if metav1.GetControllerOfNoCopy(pod) != nil || podActive(pod) {
			candidates = append(candidates, pod)
		}
	}
	patch := func(ctx context.Context, namespace, name string, kind types.PatchType, data []byte) error {
		_, err := r.client.CoreV1().Pods(namespace).Patch(ctx, name, kind, data, metav1.PatchOptions{})
		return err
	}
	live := func(ctx context.Context) (metav1.Object, error) { return r.source.live(ctx, rs.Namespace, rs.Name) }
	return planClaims(rs, selector, candidates).apply(ctx, rs, r.kind, patch, live)
}

// scale creates what is missing, or deletes what is too much.
func (r *replicaSetController) scale(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	var active []*corev1.Pod
	for _, pod := range pods {
		if podActive(pod) && !r.deleting.has(pod.UID) {
			active = append(active, pod)
		}
	}
	missing := int(*rs.Spec.Replicas) - len(active)
	switch {
	case missing > 0:
		return r.create(ctx, rs, min(missing, maxAtOnce))
	case missing < 0:
		return r.delete(ctx, rs, podsToDelete(active, r.siblings(rs), min(-missing, maxAtOnce), time.Now()))
	}
	return nil
}

// create makes n pods: first one, then two at once, then four, … When the first is refused (a quota, a
// wrong ServiceAccount), the others, which would be refused as well, are not tried.
func (r *replicaSetController) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	for batch := 1; n > 0; batch = min(2*batch, n) {
		errs := make([]error, batch)
		var group sync.WaitGroup
		for i := range batch {
			group.Go(func() { errs[i] = r.createPod(ctx, rs) })
		}
		group.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		n -= batch
		if n == 0 {
			break
		}
	}
	return nil
}

func (r *replicaSetController) createPod(ctx context.Context, rs *appsv1.ReplicaSet) error {
	pod, err := r.client.CoreV1().Pods(rs.Namespace).Create(ctx, podFromTemplate(rs, r.kind), metav1.CreateOptions{})
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // nothing can be created here any more, and nothing needs to be
	}
	if err != nil {
		r.events.Eventf(r.reference(rs), corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
		return fmt.Errorf("create pod of %s %s: %w", r.kind.Kind, keyOf(rs), err)
	}
	r.created.wrote(keyOf(rs), pod)
	r.events.Eventf(r.reference(rs), corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %s", pod.Name)
	slog.Info("created pod", "pod", keyOf(pod), "owner", r.kind.Kind+"/"+rs.Name)
	return nil
}

func (r *replicaSetController) delete(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	errs := make([]error, len(pods))
	var group sync.WaitGroup
	for i, pod := range pods {
		group.Go(func() { errs[i] = r.deletePod(ctx, rs, pod) })
	}
	group.Wait()
	return errors.Join(errs...)
}

func (r *replicaSetController) deletePod(ctx context.Context, rs *appsv1.ReplicaSet, pod *corev1.Pod) error {
	r.deleting.begin(pod.UID)
	err := r.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *metav1.NewPreconditionDeleteOptions(string(pod.UID)))
	if err != nil {
		r.deleting.done(pod.UID)
		if apierrors.IsNotFound(err) {
			return nil
		}
		r.events.Eventf(r.reference(rs), corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		return fmt.Errorf("delete pod %s: %w", keyOf(pod), err)
	}
	r.events.Eventf(r.reference(rs), corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %s", pod.Name)
	slog.Info("deleted pod", "pod", keyOf(pod), "owner", r.kind.Kind+"/"+rs.Name)
	return nil
}

// reference is what events are about.
func (r *replicaSetController) reference(rs *appsv1.ReplicaSet) *corev1.ObjectReference {
	version, kind := r.kind.ToAPIVersionAndKind()
	return &corev1.ObjectReference{
		APIVersion: version, Kind: kind, Namespace: rs.Namespace, Name: rs.Name, UID: rs.UID, ResourceVersion: rs.ResourceVersion,
	}
}

func (r *replicaSetController) writeStatus(ctx context.Context, rs *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	if equality.Semantic.DeepEqual(rs.Status, status) {
		return nil
	}
	changed := rs.DeepCopy()
	changed.Status = status
	if err := r.source.writeStatus(ctx, changed); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of %s %s: %w", r.kind.Kind, keyOf(rs), err)
	}
	return nil
}

// siblings are the active pods of all ReplicaSets of the same Deployment: while two versions run, the
// node with most pods of the application is the one to take from.
func (r *replicaSetController) siblings(rs *appsv1.ReplicaSet) []*corev1.Pod {
	owner := metav1.GetControllerOfNoCopy(rs)
	var active []*corev1.Pod
	for _, other := range r.source.list(rs.Namespace) {
		sameOwner := owner != nil && metav1.IsControlledBy(other, &metav1.ObjectMeta{UID: owner.UID})
		if other.UID != rs.UID && !sameOwner {
			continue
		}
		for _, pod := range r.pods.index(byOwner, string(other.UID)) {
			if podActive(pod) {
				active = append(active, pod)
			}
		}
	}
	return active
}

// podFromTemplate is the pod which a ReplicaSet creates; the API server completes the name, web-5d4f8c7b9-
// becomes web-5d4f8c7b9-x7k2p.
func podFromTemplate(rs *appsv1.ReplicaSet, kind schema.GroupVersionKind) *corev1.Pod {
	template := rs.Spec.Template.DeepCopy()
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       rs.Namespace,
			GenerateName:    rs.Name + "-",
			Labels:          template.Labels,
			Annotations:     template.Annotations,
			Finalizers:      template.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, kind)},
		},
		Spec: template.Spec,
	}
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
