package controllers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

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
	source replicaSource
	pods   *ownedPods
	queue  *reconcile.Queue[string]
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
	r := &replicaSetController{source: source, pods: newOwnedPods(c, kind, component)}
	r.queue = reconcile.New(component, r.sync)
	r.pods.watch(r.queue.Add, func(pod *corev1.Pod) []string {
		return selecting(source.list(pod.Namespace), func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector }, pod)
	})
	return r
}

func (r *replicaSetController) run(ctx context.Context) { r.queue.Run(ctx, 5) }

func (r *replicaSetController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	rs, err := r.source.cached(namespace, name)
	if apierrors.IsNotFound(err) {
		r.pods.created.forget(key)
		return nil
	}
	if err != nil || !r.pods.created.visible(key) {
		return err // the event of the pod we created last brings us back
	}
	pods, err := r.claim(ctx, rs)
	if err != nil {
		return err
	}
	var scaleErr error
	if rs.DeletionTimestamp == nil {
		scaleErr = r.scale(ctx, rs, pods)
	}
	now := time.Now()
	status, again := replicaSetStatus(rs, pods, scaleErr, now)
	if r.pods.kind.Kind == "ReplicationController" {
		status.TerminatingReplicas = nil // its status has no such field
	}
	if again > 0 {
		r.queue.AddAfter(key, again)
	}
	return errors.Join(scaleErr, r.writeStatus(ctx, rs, status))
}

// claim leaves pods alone which nobody owns and which have ended: they are no replicas.
func (r *replicaSetController) claim(ctx context.Context, rs *appsv1.ReplicaSet) ([]*corev1.Pod, error) {
	candidates := slices.DeleteFunc(r.pods.cache.ownedBy(rs), func(pod *corev1.Pod) bool {
		return metav1.GetControllerOfNoCopy(pod) == nil && !podActive(pod)
	})
	return r.pods.claim(ctx, rs, rs.Spec.Selector, candidates, func(ctx context.Context) (metav1.Object, error) {
		return r.source.live(ctx, rs.Namespace, rs.Name)
	})
}

// scale creates what is missing, or deletes what is too much.
func (r *replicaSetController) scale(ctx context.Context, rs *appsv1.ReplicaSet, pods []*corev1.Pod) error {
	var active []*corev1.Pod
	for _, pod := range pods {
		if !podFinished(pod) && !r.pods.going(pod) {
			active = append(active, pod)
		}
	}
	missing := int(*rs.Spec.Replicas) - len(active)
	switch {
	case missing > 0:
		return r.create(ctx, rs, min(missing, maxAtOnce))
	case missing < 0:
		victims := podsToDelete(active, r.siblings(rs), min(-missing, maxAtOnce), time.Now())
		return forEach(victims, func(pod *corev1.Pod) error { return r.pods.delete(ctx, rs, pod, deletedPod) })
	}
	return nil
}

// create makes n pods: first one, then two at once, then four, … When the first is refused (a quota, a
// wrong ServiceAccount), the others, which would be refused as well, are not tried.
func (r *replicaSetController) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	for batch := 1; n > 0; batch = min(2*batch, n) {
		err := forEach(make([]struct{}, batch), func(struct{}) error { return r.pods.create(ctx, rs, podFromTemplate(rs), createdPod) })
		if err != nil {
			return err
		}
		n -= batch
		if n == 0 {
			break
		}
	}
	return nil
}

func (r *replicaSetController) writeStatus(ctx context.Context, rs *appsv1.ReplicaSet, status appsv1.ReplicaSetStatus) error {
	if equality.Semantic.DeepEqual(rs.Status, status) {
		return nil
	}
	changed := rs.DeepCopy()
	changed.Status = status
	if err := r.source.writeStatus(ctx, changed); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of %s %s: %w", r.pods.kind.Kind, keyOf(rs), err)
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
		for _, pod := range r.pods.cache.index(byOwner, string(other.UID)) {
			if podActive(pod) {
				active = append(active, pod)
			}
		}
	}
	return active
}

// podFromTemplate is the pod which a ReplicaSet creates; the API server completes the name, web-5d4f8c7b9-
// becomes web-5d4f8c7b9-x7k2p.
func podFromTemplate(rs *appsv1.ReplicaSet) *corev1.Pod {
	template := rs.Spec.Template.DeepCopy()
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		GenerateName: rs.Name + "-", Labels: template.Labels, Annotations: template.Annotations, Finalizers: template.Finalizers,
	}, Spec: template.Spec}
}
