package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/util/flowcontrol"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// daemonSetController runs one pod on every node that fits. It decides itself which nodes those are, and
// lets the scheduler place each pod: a pod for node-2 requires a node whose metadata.name is node-2.
type daemonSetController struct {
	sets      appslisters.DaemonSetLister
	nodes     corelisters.NodeLister
	pods      *ownedPods
	revisions *revisions
	queue     *reconcile.Queue[string]
	backoff   *flowcontrol.Backoff // for pods which fail again and again; by UID of the set and node
}

func daemonSets(c *cluster) loop {
	kind := appsv1.SchemeGroupVersion.WithKind("DaemonSet")
	sets, nodes := c.informers.Apps().V1().DaemonSets(), c.informers.Core().V1().Nodes()
	d := &daemonSetController{
		sets: sets.Lister(), nodes: nodes.Lister(), pods: newOwnedPods(c, kind, "daemonset-controller"), revisions: newRevisions(c, kind),
		backoff: flowcontrol.NewBackOff(time.Second, 15*time.Minute),
	}
	d.queue = reconcile.New("daemonset", d.sync)
	kube.OnChange(sets.Informer(), func(was, is *appsv1.DaemonSet) { d.queue.Add(keyOf(either(was, is))) })
	kube.OnChange(nodes.Informer(), func(was, is *corev1.Node) {
		if was != nil && is != nil && equality.Semantic.DeepEqual(was.Labels, is.Labels) && equality.Semantic.DeepEqual(was.Spec.Taints, is.Spec.Taints) {
			return // a heartbeat
		}
		all, _ := d.sets.List(everything)
		for _, set := range all {
			d.queue.Add(keyOf(set))
		}
	})
	d.pods.watch(d.queue.Add, func(pod *corev1.Pod) []string {
		all, _ := d.sets.DaemonSets(pod.Namespace).List(everything)
		return selecting(all, func(set *appsv1.DaemonSet) *metav1.LabelSelector { return set.Spec.Selector }, pod)
	})
	return func(ctx context.Context) { d.queue.Run(ctx, 2) }
}

func (d *daemonSetController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	set, err := d.sets.DaemonSets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		d.pods.created.forget(key)
		return nil
	}
	if err != nil || !d.pods.created.visible(key) {
		return err
	}
	pods, err := d.pods.claim(ctx, set, set.Spec.Selector, d.pods.cache.ownedBy(set), func(ctx context.Context) (metav1.Object, error) {
		return d.pods.client.AppsV1().DaemonSets(namespace).Get(ctx, name, metav1.GetOptions{})
	})
	if err != nil || set.DeletionTimestamp != nil {
		return err
	}
	known := d.revisions.of(set)
	current, err := d.revisions.ensure(ctx, set, &set.Spec.Template, known)
	if err != nil {
		return fmt.Errorf("keep the revision of DaemonSet %s: %w", key, err)
	}
	hash := current.Labels[appsv1.ControllerRevisionHashLabelKey]
	nodes, err := d.nodes.List(everything)
	if err != nil {
		return err
	}
	plan := planDaemons(set, nodes, pods, hash, d.pods.going, time.Now())
	if plan.again > 0 {
		d.queue.AddAfter(key, plan.again)
	}
	return errors.Join(
		d.carryOut(ctx, set, plan, hash),
		d.writeStatus(ctx, set, plan.status),
		d.revisions.prune(ctx, known, set.Spec.RevisionHistoryLimit, func(rev *appsv1.ControllerRevision) bool {
			return rev.Name == current.Name || hasRevision(pods, rev.Labels[appsv1.ControllerRevisionHashLabelKey])
		}),
	)
}

func hasRevision(pods []*corev1.Pod, label string) bool {
	for _, pod := range pods {
		if pod.Labels[appsv1.ControllerRevisionHashLabelKey] == label {
			return true
		}
	}
	return false
}

func (d *daemonSetController) carryOut(ctx context.Context, set *appsv1.DaemonSet, plan daemonPlan, hash string) error {
	removed := forEach(plan.remove, func(pod *corev1.Pod) error {
		if pod.Status.Phase == corev1.PodFailed && !d.mayRetry(set, pod) {
			return nil
		}
		return d.pods.delete(ctx, set, pod, deletedPod)
	})
	return errors.Join(removed, forEach(plan.create[:min(len(plan.create), maxAtOnce)], func(node string) error {
		return d.pods.create(ctx, set, daemonPod(set, node, hash), createdPod)
	}))
}

// mayRetry waits longer and longer before a pod that failed is replaced: 1 s, 2 s, … 15 min.
func (d *daemonSetController) mayRetry(set *appsv1.DaemonSet, pod *corev1.Pod) bool {
	key, now := string(set.UID)+"/"+targetNode(pod), time.Now()
	if d.backoff.IsInBackOffSinceUpdate(key, now) {
		d.queue.AddAfter(keyOf(set), d.backoff.Get(key))
		return false
	}
	d.backoff.Next(key, now)
	d.pods.events.Eventf(set, corev1.EventTypeWarning, "FailedDaemonPod", "Found failed daemon pod %s on node %s, will try to kill it", keyOf(pod), pod.Spec.NodeName)
	return true
}

func (d *daemonSetController) writeStatus(ctx context.Context, set *appsv1.DaemonSet, status appsv1.DaemonSetStatus) error {
	status.Conditions, status.CollisionCount = set.Status.Conditions, set.Status.CollisionCount
	if equality.Semantic.DeepEqual(set.Status, status) {
		return nil
	}
	changed := set.DeepCopy()
	changed.Status = status
	_, err := d.pods.client.AppsV1().DaemonSets(set.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of DaemonSet %s: %w", keyOf(set), err)
	}
	return nil
}
