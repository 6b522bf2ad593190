package controllers

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	policylisters "k8s.io/client-go/listers/policy/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// disruptionController says how many pods of an application may be evicted right now. The API server
// counts down status.disruptionsAllowed with each eviction; this controller counts anew when pods change.
type disruptionController struct {
	client  kubernetes.Interface
	budgets policylisters.PodDisruptionBudgetLister
	pods    podCache
	sizes   map[string]func(namespace, name string) (owner metav1.Object, replicas *int32, err error)
	queue   *reconcile.Queue[string]
}

func disruptions(c *cluster) loop {
	budgets := c.informers.Policy().V1().PodDisruptionBudgets()
	d := &disruptionController{client: c.client, budgets: budgets.Lister(), pods: c.pods(), sizes: replicaSources(c)}
	d.queue = reconcile.New("disruption", d.sync)
	kube.OnChange(budgets.Informer(), func(was, is *policyv1.PodDisruptionBudget) { d.queue.Add(keyOf(either(was, is))) })
	kube.OnChange(d.pods.informer, func(was, is *corev1.Pod) {
		for _, pod := range []*corev1.Pod{was, is} {
			if pod != nil {
				d.podChanged(pod)
			}
		}
	})
	return func(ctx context.Context) { d.queue.Run(ctx, 1) }
}

func (d *disruptionController) podChanged(pod *corev1.Pod) {
	budgets, _ := d.budgets.PodDisruptionBudgets(pod.Namespace).List(everything)
	for _, budget := range budgets {
		selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
		if err == nil && selector.Matches(labels.Set(pod.Labels)) {
			d.queue.Add(keyOf(budget))
		}
	}
}

// replicaSources are the kinds whose wanted size is known: percentages count from there.
func replicaSources(c *cluster) map[string]func(namespace, name string) (metav1.Object, *int32, error) {
	apps, core := c.informers.Apps().V1(), c.informers.Core().V1()
	deployments, sets, stateful, controllers := apps.Deployments().Lister(), apps.ReplicaSets().Lister(), apps.StatefulSets().Lister(), core.ReplicationControllers().Lister()
	return map[string]func(namespace, name string) (metav1.Object, *int32, error){
		"Deployment": func(namespace, name string) (metav1.Object, *int32, error) {
			o, err := deployments.Deployments(namespace).Get(name)
			if err != nil {
				return nil, nil, err
			}
			return o, o.Spec.Replicas, nil
		},
		"ReplicaSet": func(namespace, name string) (metav1.Object, *int32, error) {
			o, err := sets.ReplicaSets(namespace).Get(name)
			if err != nil {
				return nil, nil, err
			}
			return o, o.Spec.Replicas, nil
		},
		"StatefulSet": func(namespace, name string) (metav1.Object, *int32, error) {
			o, err := stateful.StatefulSets(namespace).Get(name)
			if err != nil {
				return nil, nil, err
			}
			return o, o.Spec.Replicas, nil
		},
		"ReplicationController": func(namespace, name string) (metav1.Object, *int32, error) {
			o, err := controllers.ReplicationControllers(namespace).Get(name)
			if err != nil {
				return nil, nil, err
			}
			return o, o.Spec.Replicas, nil
		},
	}
}

func (d *disruptionController) sync(ctx context.Context, key string) error {
	namespace, name := splitKey(key)
	budget, err := d.budgets.PodDisruptionBudgets(namespace).Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	if err != nil {
		return nil //nolint:nilerr // no retry makes a selector valid
	}
	var pods []*corev1.Pod
	all, _ := d.pods.lister.Pods(namespace).List(everything)
	for _, pod := range all {
		if selector.Matches(labels.Set(pod.Labels)) {
			pods = append(pods, pod)
		}
	}
	status, again := budgetStatus(budget, pods, d.expected(pods), time.Now())
	if again > 0 {
		d.queue.AddAfter(key, again)
	}
	return d.write(ctx, budget, status)
}

// expected is the number of pods which the pods' owners together want.
func (d *disruptionController) expected(pods []*corev1.Pod) int {
	seen, total := map[types.UID]bool{}, 0
	for _, pod := range pods {
		owner := metav1.GetControllerOfNoCopy(pod)
		if owner == nil {
			total++
			continue
		}
		uid, size := owner.UID, int32(1)
		if find, ok := d.sizes[owner.Kind]; ok {
			if object, replicas, err := find(pod.Namespace, owner.Name); err == nil && replicas != nil {
				size = *replicas
				if above := metav1.GetControllerOfNoCopy(object); above != nil && above.Kind == "Deployment" {
					if _, replicas, err := d.sizes[above.Kind](pod.Namespace, above.Name); err == nil && replicas != nil {
						uid, size = above.UID, *replicas
					}
				}
			}
		}
		if !seen[uid] {
			seen[uid] = true
			total += int(size)
		}
	}
	return total
}

// evictionTime is how long an evicted pod may take to show as deleted, before it counts again.
const evictionTime = 2 * time.Minute

// budgetStatus counts. expected is what the pods' owners want; again says when a note in disruptedPods ends.
func budgetStatus(b *policyv1.PodDisruptionBudget, pods []*corev1.Pod, expected int, now time.Time) (policyv1.PodDisruptionBudgetStatus, time.Duration) {
	status := policyv1.PodDisruptionBudgetStatus{ObservedGeneration: b.Generation, Conditions: b.DeepCopy().Status.Conditions}
	desired := 0
	switch least, most := b.Spec.MinAvailable, b.Spec.MaxUnavailable; {
	case most != nil:
		desired = max(0, expected-share(most, expected))
	case least != nil && least.Type == intstr.Int:
		expected, desired = len(pods), least.IntValue()
	case least != nil:
		desired = share(least, expected)
	default:
		expected = 0 // a budget without numbers allows nothing
	}
	healthy := 0
	var again time.Duration
	for _, pod := range pods {
		evicted, noted := b.Status.DisruptedPods[pod.Name]
		left := evicted.Add(evictionTime).Sub(now)
		switch {
		case pod.DeletionTimestamp != nil:
		case noted && left > 0:
			if status.DisruptedPods == nil {
				status.DisruptedPods = map[string]metav1.Time{}
			}
			status.DisruptedPods[pod.Name] = evicted
			if again == 0 || left < again {
				again = left
			}
		case podReady(pod):
			healthy++
		}
	}
	allowed := max(0, healthy-desired)
	if expected <= 0 {
		allowed = 0
	}
	status.ExpectedPods, status.DesiredHealthy, status.CurrentHealthy, status.DisruptionsAllowed = int32(expected), int32(desired), int32(healthy), int32(allowed)
	condition := metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.InsufficientPodsReason, ObservedGeneration: b.Generation}
	if allowed > 0 {
		condition.Status, condition.Reason = metav1.ConditionTrue, policyv1.SufficientPodsReason
	}
	meta.SetStatusCondition(&status.Conditions, condition)
	return status, again
}

func (d *disruptionController) write(ctx context.Context, budget *policyv1.PodDisruptionBudget, status policyv1.PodDisruptionBudgetStatus) error {
	if equality.Semantic.DeepEqual(budget.Status, status) {
		return nil
	}
	changed := budget.DeepCopy()
	changed.Status = status
	// The resourceVersion goes along: an eviction which was granted meanwhile makes this a conflict.
	_, err := d.client.PolicyV1().PodDisruptionBudgets(budget.Namespace).UpdateStatus(ctx, changed, metav1.UpdateOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of PodDisruptionBudget %s: %w", keyOf(budget), err)
	}
	return nil
}
