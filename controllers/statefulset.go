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

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// statefulSetController keeps pods whose names last: db-0, db-1, db-2. A pod that dies comes back under its
// name, and with a headless Service under the DNS name db-0.db.default.svc.cluster.local. Pods come one
// after the other, each when the one before is ready, and go in the opposite order.
type statefulSetController struct {
	sets      appslisters.StatefulSetLister
	pods      *ownedPods
	revisions *revisions
	queue     *reconcile.Queue[string]
}

func statefulSets(c *cluster) loop {
	kind := appsv1.SchemeGroupVersion.WithKind("StatefulSet")
	sets := c.informers.Apps().V1().StatefulSets()
	s := &statefulSetController{sets: sets.Lister(), pods: newOwnedPods(c, kind, "statefulset-controller"), revisions: newRevisions(c, kind)}
	s.queue = reconcile.New("statefulset", s.sync)
	kube.OnChange(sets.Informer(), func(was, is *appsv1.StatefulSet) { s.queue.Add(keyOf(either(was, is))) })
	s.pods.watch(s.queue.Add, func(pod *corev1.Pod) []string {
		all, _ := s.sets.StatefulSets(pod.Namespace).List(everything)
		return selecting(all, func(set *appsv1.StatefulSet) *metav1.LabelSelector { return set.Spec.Selector }, pod)
	})
	return func(ctx context.Context) { s.queue.Run(ctx, 2) }
}

func (s *statefulSetController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	set, err := s.sets.StatefulSets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		s.pods.created.forget(key)
		return nil
	}
	if err != nil || !s.pods.created.visible(key) {
		return err
	}
	pods, err := s.pods.claim(ctx, set, set.Spec.Selector, s.pods.cache.ownedBy(set), func(ctx context.Context) (metav1.Object, error) {
		return s.pods.client.AppsV1().StatefulSets(namespace).Get(ctx, name, metav1.GetOptions{})
	})
	if err != nil || set.DeletionTimestamp != nil {
		return err
	}
	known := s.revisions.of(set)
	update, err := s.revisions.ensure(ctx, set, &set.Spec.Template, known)
	if err != nil {
		return fmt.Errorf("keep the revision of StatefulSet %s: %w", key, err)
	}
	current := update
	for _, rev := range known {
		if rev.Name == set.Status.CurrentRevision {
			current = rev
		}
	}
	plan := planStateful(set, pods, current.Name, update.Name, s.pods.going, time.Now())
	if plan.again > 0 {
		s.queue.AddAfter(key, plan.again)
	}
	return errors.Join(
		s.carryOut(ctx, set, plan, current, update),
		s.writeStatus(ctx, set, plan.status),
		s.revisions.prune(ctx, known, set.Spec.RevisionHistoryLimit, func(rev *appsv1.ControllerRevision) bool {
			return rev.Name == current.Name || rev.Name == update.Name || hasRevision(pods, rev.Name)
		}),
	)
}

func (s *statefulSetController) carryOut(ctx context.Context, set *appsv1.StatefulSet, plan statefulPlan, current, update *appsv1.ControllerRevision) error {
	if len(plan.create) > 0 && len(set.Spec.VolumeClaimTemplates) > 0 {
		s.pods.events.Event(set, corev1.EventTypeWarning, "FailedCreate", "volumeClaimTemplates need PersistentVolumeClaims, which this cluster does not serve; use a volume of the pod template")
		return nil
	}
	told := func(verb string) func(string) string {
		return func(pod string) string {
			return fmt.Sprintf("%s Pod %s in StatefulSet %s successful", verb, pod, set.Name)
		}
	}
	removed := forEach(plan.remove, func(pod *corev1.Pod) error { return s.pods.delete(ctx, set, pod, told("delete")) })
	return errors.Join(removed, forEach(plan.create, func(ordinal int) error {
		of := update
		if plan.revisionOf(set, ordinal) == current.Name {
			of = current
		}
		template, err := templateOf(of)
		if err != nil {
			return err
		}
		return s.pods.create(ctx, set, statefulPod(set, template, ordinal, of.Name), told("create"))
	}))
}

func (s *statefulSetController) writeStatus(ctx context.Context, set *appsv1.StatefulSet, status appsv1.StatefulSetStatus) error {
	status.Conditions, status.CollisionCount = set.Status.Conditions, new(int32)
	if equality.Semantic.DeepEqual(set.Status, status) {
		return nil
	}
	changed := set.DeepCopy()
	changed.Status = status
	_, err := s.pods.client.AppsV1().StatefulSets(set.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of StatefulSet %s: %w", keyOf(set), err)
	}
	return nil
}
