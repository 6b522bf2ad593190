package controllers

import (
	"testing"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func TestBudgetStatus(t *testing.T) {
	now := time.Unix(1000, 0)
	number := func(n int) *intstr.IntOrString { return new(intstr.FromInt(n)) }
	percent := func(s string) *intstr.IntOrString { return new(intstr.FromString(s)) }
	for _, c := range []struct {
		name             string
		spec             policyv1.PodDisruptionBudgetSpec
		pods             string
		expected         int
		desired, allowed int32
	}{
		{"at least two of three", policyv1.PodDisruptionBudgetSpec{MinAvailable: number(2)}, "a:x b:x c:x", 3, 2, 1},
		{"one is not ready", policyv1.PodDisruptionBudgetSpec{MinAvailable: number(2)}, "a:x b:x c:x!", 3, 2, 0},
		{"half of five wanted, rounded up", policyv1.PodDisruptionBudgetSpec{MinAvailable: percent("50%")}, "a:x b:x c:x d:x", 5, 3, 1},
		{"one of four may be away", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}, "a:x b:x c:x d:x", 4, 3, 1},
		{"one is away already", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}, "a:x b:x c:x", 4, 3, 0},
		{"nothing runs", policyv1.PodDisruptionBudgetSpec{MaxUnavailable: number(1)}, "", 0, 0, 0},
	} {
		budget := &policyv1.PodDisruptionBudget{Spec: c.spec}
		status, _ := budgetStatus(budget, daemonPods(c.pods), c.expected, now)
		if status.DesiredHealthy != c.desired || status.DisruptionsAllowed != c.allowed {
			t.Errorf("%s: desired %d allowed %d, want %d and %d", c.name, status.DesiredHealthy, status.DisruptionsAllowed, c.desired, c.allowed)
		}
	}
	// A pod whose eviction was granted does not count, for two minutes.
	budget := &policyv1.PodDisruptionBudget{Spec: policyv1.PodDisruptionBudgetSpec{MinAvailable: number(1)}}
	budget.Status.DisruptedPods = map[string]metav1.Time{"a:x": metav1.NewTime(now.Add(-time.Minute))}
	status, again := budgetStatus(budget, daemonPods("a:x b:x"), 2, now)
	if status.CurrentHealthy != 1 || status.DisruptionsAllowed != 0 || again != time.Minute {
		t.Errorf("after an eviction: %+v, again in %v", status, again)
	}
}
