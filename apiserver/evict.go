package apiserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// evict answers POST pods/NAME/eviction: a polite deletion, as `kubectl drain`
// asks for it. A PodDisruptionBudget that has nothing left to spend refuses it
// with 429, and the client tries again later.
func (s *Server) evict(w http.ResponseWriter, r *request) error {
	del, err := evictionOf(r)
	if err != nil {
		return err
	}
	obj, err := s.store.Get(r.Context(), r.kind.Key(r.namespace, r.name))
	if err != nil {
		return apiError(err, r.kind.GR(), r.name)
	}
	pod, dryRun := obj.(*corev1.Pod), len(del.DryRun) > 0
	if !disturbsNobody(pod) {
		if err := s.spendBudget(r.Context(), pod, dryRun); err != nil {
			return err
		}
		if err := s.sayEvicted(r.Context(), pod, dryRun); err != nil {
			return err
		}
	}
	if _, _, err := s.deleteObject(r.Context(), r.kind, r.namespace, r.name, del); err != nil {
		return err
	}
	s.respond(w, r.Request, http.StatusCreated, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: http.StatusCreated,
	})
	return nil
}

// evictionOf reads the request: how to delete.
func evictionOf(r *request) (*metav1.DeleteOptions, error) {
	o, err := writeOptionsOf(r.Request, "CreateOptions")
	if err != nil {
		return nil, err
	}
	eviction, err := decodePart(r, policyv1.SchemeGroupVersion.WithKind("Eviction"), &policyv1.Eviction{})
	if err != nil {
		return nil, err
	}
	if eviction.Name != "" && eviction.Name != r.name {
		return nil, badRequest("name in URL does not match name in Eviction object")
	}
	del := eviction.DeleteOptions
	if del == nil {
		del = &metav1.DeleteOptions{}
	}
	if o.dryRun {
		del.DryRun = []string{metav1.DryRunAll}
	}
	return del, nil
}

// disturbsNobody: the pod does not run, or is on its way out already.
func disturbsNobody(pod *corev1.Pod) bool {
	switch pod.Status.Phase {
	case corev1.PodSucceeded, corev1.PodFailed, corev1.PodPending:
		return true
	}
	return pod.DeletionTimestamp != nil
}

const overBudget = "Cannot evict pod as it would violate the pod's disruption budget."

// spendBudget takes one disruption out of the pod's budget, if it has one. The
// disruption controller fills it up again when another pod is ready; until it
// has seen this pod go, the pod is noted in disruptedPods.
func (s *Server) spendBudget(ctx context.Context, pod *corev1.Pod, dryRun bool) error {
	budgets := s.budgetsOf(pod)
	switch {
	case len(budgets) == 0:
		return nil
	case len(budgets) > 1:
		return apierrors.NewInternalError(errors.New("this pod has more than one PodDisruptionBudget, which the eviction subresource does not support"))
	}
	name := budgets[0].Name
	kind := resource.PodDisruptionBudget
	_, err := s.store.Modify(ctx, kind.Key(pod.Namespace, name), func(current store.Object) (store.Write, error) {
		if current == nil || spared(pod, current.(*policyv1.PodDisruptionBudget)) {
			return store.Write{Object: current, Unchanged: true}, nil
		}
		budget := current.DeepCopyObject().(*policyv1.PodDisruptionBudget)
		if err := withdraw(budget, pod.Name); err != nil {
			return store.Write{}, err
		}
		return store.Write{Object: budget, DryRun: dryRun}, nil
	})
	return apiError(err, kind.GR(), name)
}

func (s *Server) budgetsOf(pod *corev1.Pod) []*policyv1.PodDisruptionBudget {
	var list []*policyv1.PodDisruptionBudget
	kind := resource.PodDisruptionBudget
	for _, obj := range s.store.CachedList(kind.Prefix, kind.Under(pod.Namespace)) {
		budget := obj.(*policyv1.PodDisruptionBudget)
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			list = append(list, budget)
		}
	}
	return list
}

// spared: a pod that is not ready counts for nothing in a budget that is
// fulfilled without it, so its loss costs nothing.
func spared(pod *corev1.Pod, b *policyv1.PodDisruptionBudget) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
			return false
		}
	}
	if p := b.Spec.UnhealthyPodEvictionPolicy; p != nil && *p == policyv1.AlwaysAllow {
		return true
	}
	return b.Status.CurrentHealthy >= b.Status.DesiredHealthy && b.Status.DesiredHealthy > 0
}

// maxDisrupted bounds the list in a budget's status.
const maxDisrupted = 2000

func withdraw(b *policyv1.PodDisruptionBudget, pod string) error {
	refuse := func(retryAfter int, cause string) error {
		err := apierrors.NewTooManyRequests(overBudget, retryAfter)
		err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: policyv1.DisruptionBudgetCause, Message: cause})
		return err
	}
	gr := resource.PodDisruptionBudget.GR()
	switch {
	case b.Status.ObservedGeneration < b.Generation:
		return refuse(10, fmt.Sprintf("The disruption budget %s is still being processed by the server.", b.Name))
	case b.Status.DisruptionsAllowed < 0:
		return apierrors.NewForbidden(gr, b.Name, errors.New("pdb disruptions allowed is negative"))
	case len(b.Status.DisruptedPods) > maxDisrupted:
		return apierrors.NewForbidden(gr, b.Name, errors.New("DisruptedPods map too big - too many evictions not confirmed by PDB controller"))
	case b.Status.DisruptionsAllowed == 0:
		return refuse(0, fmt.Sprintf("The disruption budget %s needs %d healthy pods and has %d currently", b.Name, b.Status.DesiredHealthy, b.Status.CurrentHealthy))
	}
	b.Status.DisruptionsAllowed--
	if b.Status.DisruptedPods == nil {
		b.Status.DisruptedPods = map[string]metav1.Time{}
	}
	b.Status.DisruptedPods[pod] = metav1.NewTime(time.Now()).Rfc3339Copy()
	return nil
}

// sayEvicted tells in the pod's conditions why it goes.
func (s *Server) sayEvicted(ctx context.Context, pod *corev1.Pod, dryRun bool) error {
	_, err := s.store.Modify(ctx, resource.Pod.Key(pod.Namespace, pod.Name), func(current store.Object) (store.Write, error) {
		if current == nil {
			return store.Write{}, apierrors.NewNotFound(resource.Pod.GR(), pod.Name)
		}
		next := current.DeepCopyObject().(*corev1.Pod)
		setPodCondition(next, corev1.DisruptionTarget, corev1.ConditionTrue)
		for i := range next.Status.Conditions {
			if c := &next.Status.Conditions[i]; c.Type == corev1.DisruptionTarget {
				c.Reason, c.Message = "EvictionByEvictionAPI", "Eviction API: evicting"
			}
		}
		return store.Write{Object: next, DryRun: dryRun}, nil
	})
	return apiError(err, resource.Pod.GR(), pod.Name)
}
