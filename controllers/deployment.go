package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// deploymentController owns one ReplicaSet per version of the pod template, and moves replicas from the
// old ones to the new one. It never touches a pod.
//
//	deployment.go             the loop, and the writes
//	deploymentrevision.go     which ReplicaSet is the present version; names, hashes, revisions
//	deploymentrollout.go      how many replicas each may have now: pure arithmetic
//	deploymentstatus.go       status and conditions: pure as well
type deploymentController struct {
	client      kubernetes.Interface
	deployments appslisters.DeploymentLister
	sets        cache.SharedIndexInformer
	setLister   appslisters.ReplicaSetLister
	pods        podCache
	events      record.EventRecorder
	queue       *reconcile.Queue[string]
}

var deploymentKind = appsv1.SchemeGroupVersion.WithKind("Deployment")

func deployments(c *cluster) loop {
	informer, sets := c.informers.Apps().V1().Deployments(), c.informers.Apps().V1().ReplicaSets()
	d := &deploymentController{
		client: c.client, deployments: informer.Lister(), sets: sets.Informer(), setLister: sets.Lister(),
		pods: c.pods(), events: c.eventsFrom("deployment-controller"),
	}
	d.queue = reconcile.New("deployment", d.sync)
	kube.OnChange(informer.Informer(), func(was, is *appsv1.Deployment) { d.queue.Add(keyOf(either(was, is))) })
	kube.OnChange(sets.Informer(), d.setChanged)
	kube.OnChange(d.pods.informer, func(was, is *corev1.Pod) {
		if is == nil || podFinished(is) && !podFinished(either(was, is)) {
			d.podGone(was)
		}
	})
	return func(ctx context.Context) { d.queue.Run(ctx, 5) }
}

// setChanged wakes the Deployment which owns or owned a ReplicaSet; when nobody owns it, all of the
// namespace which select it.
func (d *deploymentController) setChanged(was, is *appsv1.ReplicaSet) {
	for _, rs := range []*appsv1.ReplicaSet{was, is} {
		if rs == nil {
			continue
		}
		if owner := metav1.GetControllerOfNoCopy(rs); owner != nil && owner.Kind == deploymentKind.Kind {
			d.queue.Add(cache.ObjectName{Namespace: rs.Namespace, Name: owner.Name}.String())
		}
	}
	if is == nil || metav1.GetControllerOfNoCopy(is) != nil {
		return
	}
	all, _ := d.deployments.Deployments(is.Namespace).List(everything)
	for _, deployment := range all {
		selector, err := metav1.LabelSelectorAsSelector(deployment.Spec.Selector)
		if err == nil && !selector.Empty() && selector.Matches(labels.Set(is.Labels)) {
			d.queue.Add(keyOf(deployment))
		}
	}
}

// podGone matters to Recreate only: the new version starts when the last pod of the old one is gone.
func (d *deploymentController) podGone(pod *corev1.Pod) {
	owner := metav1.GetControllerOfNoCopy(pod)
	if owner == nil || owner.Kind != "ReplicaSet" {
		return
	}
	if rs, err := d.setLister.ReplicaSets(pod.Namespace).Get(owner.Name); err == nil {
		if deployment := metav1.GetControllerOfNoCopy(rs); deployment != nil {
			d.queue.Add(cache.ObjectName{Namespace: pod.Namespace, Name: deployment.Name}.String())
		}
	}
}

func (d *deploymentController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	cached, err := d.deployments.Deployments(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	deployment := cached.DeepCopy()
	if equality.Semantic.DeepEqual(deployment.Spec.Selector, &metav1.LabelSelector{}) {
		d.events.Event(deployment, corev1.EventTypeWarning, "SelectingAll", "This deployment is selecting all pods. A non-empty selector is required.")
		return nil
	}
	sets, err := d.claim(ctx, deployment)
	if err != nil {
		return err
	}
	if deployment.DeletionTimestamp != nil {
		return d.writeStatus(ctx, deployment, findNewReplicaSet(deployment, sets), sets)
	}
	if changed, err := d.notePause(ctx, deployment); changed || err != nil {
		return err // our own write brings us back
	}
	current, old := splitReplicaSets(deployment, sets)
	recreate := deployment.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType
	switch {
	case deployment.Spec.Paused, !recreate && replicasWereEdited(deployment, sets):
		return d.scaleOnly(ctx, deployment, current, old)
	case recreate:
		return d.recreate(ctx, deployment, current, old)
	default:
		return d.bringUpCurrent(ctx, deployment, current, old)
	}
}

func (d *deploymentController) claim(ctx context.Context, deployment *appsv1.Deployment) ([]*appsv1.ReplicaSet, error) {
	selector, err := metav1.LabelSelectorAsSelector(deployment.Spec.Selector)
	if err != nil {
		return nil, fmt.Errorf("read selector of deployment %s: %w", keyOf(deployment), err)
	}
	all, err := d.setLister.ReplicaSets(deployment.Namespace).List(everything)
	if err != nil {
		return nil, err
	}
	patch := func(ctx context.Context, namespace, name string, kind types.PatchType, data []byte) error {
		_, err := d.client.AppsV1().ReplicaSets(namespace).Patch(ctx, name, kind, data, metav1.PatchOptions{})
		return err
	}
	live := func(ctx context.Context) (metav1.Object, error) {
		return d.client.AppsV1().Deployments(deployment.Namespace).Get(ctx, deployment.Name, metav1.GetOptions{})
	}
	return planClaims(deployment, selector, all).apply(ctx, deployment, deploymentKind, patch, live)
}

// notePause writes into the condition Progressing that the clock of progressDeadlineSeconds stands still.
func (d *deploymentController) notePause(ctx context.Context, deployment *appsv1.Deployment) (bool, error) {
	condition := pauseCondition(deployment, time.Now())
	if condition == nil {
		return false, nil
	}
	setDeploymentCondition(&deployment.Status, *condition)
	_, err := d.client.AppsV1().Deployments(deployment.Namespace).UpdateStatus(ctx, deployment, metav1.UpdateOptions{})
	return true, err
}

// scaleOnly changes how many, not which: a paused Deployment, or one whose spec.replicas was edited.
func (d *deploymentController) scaleOnly(ctx context.Context, deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) error {
	if current != nil {
		var err error
		if current, err = d.refreshCurrent(ctx, deployment, current, old); err != nil {
			return err
		}
	}
	all := withCurrent(old, current)
	for _, step := range planScale(deployment, current, old) {
		if _, err := d.scale(ctx, deployment, step.set, step.replicas); err != nil {
			return err
		}
	}
	if deployment.Spec.Paused {
		if err := d.cleanUp(ctx, deployment, old); err != nil {
			return err
		}
	}
	return d.writeStatus(ctx, deployment, current, all)
}

// recreate stops the old version entirely before it starts the new one.
func (d *deploymentController) recreate(ctx context.Context, deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) error {
	stopping := false
	for _, rs := range old {
		if *rs.Spec.Replicas > 0 {
			stopping = true
			if _, err := d.scale(ctx, deployment, rs, 0); err != nil {
				return err
			}
		}
	}
	if stopping || d.podsRun(old) {
		return d.writeStatus(ctx, deployment, current, withCurrent(old, current))
	}
	return d.bringUpCurrent(ctx, deployment, current, old)
}

func (d *deploymentController) podsRun(sets []*appsv1.ReplicaSet) bool {
	for _, rs := range sets {
		if slices.ContainsFunc(d.pods.index(byOwner, string(rs.UID)), func(pod *corev1.Pod) bool { return !podFinished(pod) }) {
			return true
		}
	}
	return false
}

// bringUpCurrent makes one step of a rollout: it grows the new version, or else shrinks the old ones. The
// next step is made when the pods of this one have become ready, or are gone: then the status of their
// ReplicaSet changes, and that brings us back.
func (d *deploymentController) bringUpCurrent(ctx context.Context, deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) error {
	current, err := d.ensureCurrent(ctx, deployment, current, old)
	if err != nil {
		return err
	}
	all := withCurrent(old, current)
	steps := planRollout(deployment, current, old)
	for _, step := range steps {
		scaled, err := d.scale(ctx, deployment, step.set, step.replicas)
		if err != nil {
			return err
		}
		if scaled.UID == current.UID {
			current = scaled
		}
		for i := range all {
			if all[i].UID == scaled.UID {
				all[i] = scaled
			}
		}
	}
	if len(steps) == 0 && deploymentComplete(deployment, &deployment.Status) {
		if err := d.cleanUp(ctx, deployment, old); err != nil {
			return err
		}
	}
	return d.writeStatus(ctx, deployment, current, all)
}

// scale writes spec.replicas of one ReplicaSet. The write carries the resourceVersion we looked at, so a
// decision made on an old picture is refused.
func (d *deploymentController) scale(ctx context.Context, deployment *appsv1.Deployment, rs *appsv1.ReplicaSet, replicas int32) (*appsv1.ReplicaSet, error) {
	before := *rs.Spec.Replicas
	changed := rs.DeepCopy()
	setReplicaAnnotations(changed, deployment)
	changed.Spec.Replicas = new(replicas)
	if before == replicas && equality.Semantic.DeepEqual(changed.Annotations, rs.Annotations) {
		return rs, nil
	}
	written, err := d.client.AppsV1().ReplicaSets(rs.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		return nil, fmt.Errorf("scale replica set %s from %d to %d: %w", rs.Name, before, replicas, err)
	}
	if before != replicas {
		direction := "up"
		if before > replicas {
			direction = "down"
		}
		d.events.Eventf(deployment, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled %s replica set %s from %d to %d", direction, rs.Name, before, replicas)
		slog.Info("scaled replica set", "deployment", keyOf(deployment), "replicaset", rs.Name, "from", before, "to", replicas)
	}
	return written, nil
}

// cleanUp deletes the oldest idle ReplicaSets beyond revisionHistoryLimit. Each that stays is a version to
// which `kubectl rollout undo` can go back.
func (d *deploymentController) cleanUp(ctx context.Context, deployment *appsv1.Deployment, old []*appsv1.ReplicaSet) error {
	for _, rs := range planCleanUp(deployment, old) {
		err := d.client.AppsV1().ReplicaSets(rs.Namespace).Delete(ctx, rs.Name, *metav1.NewPreconditionDeleteOptions(string(rs.UID)))
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete old replica set %s: %w", rs.Name, err)
		}
		slog.Info("deleted old replica set", "deployment", keyOf(deployment), "replicaset", rs.Name)
	}
	return nil
}

func (d *deploymentController) writeStatus(ctx context.Context, deployment *appsv1.Deployment, current *appsv1.ReplicaSet, all []*appsv1.ReplicaSet) error {
	status := deploymentStatus(deployment, current, all, time.Now())
	if wait := untilDeadline(deployment, &status, time.Now()); wait > 0 {
		d.queue.AddAfter(keyOf(deployment), wait)
	}
	// Compared with what is stored, not with deployment.Status: this pass may have set conditions there.
	stored, err := d.deployments.Deployments(deployment.Namespace).Get(deployment.Name)
	if err != nil || equality.Semantic.DeepEqual(stored.Status, status) {
		return nil
	}
	deployment.Status = status
	_, err = d.client.AppsV1().Deployments(deployment.Namespace).UpdateStatus(ctx, deployment, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of deployment %s: %w", keyOf(deployment), err)
	}
	return nil
}
