package apiserver

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TestEvictionKeepsToBudget evicts a running pod: refused while the budget is
// not yet counted, refused when nothing is left, granted once when one is left.
func TestEvictionKeepsToBudget(t *testing.T) {
	c := startServer(t)
	client, ctx := c.admin(), t.Context()
	client.CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	pods, budgets := client.CoreV1().Pods("default"), client.PolicyV1().PodDisruptionBudgets("default")
	for _, name := range []string{"a", "b"} {
		pod, err := pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "db"}},
			Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod.Status.Phase = corev1.PodRunning
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		if _, err := pods.UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	budget, err := budgets.Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: new(intstr.FromInt(1)), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	evict := func(pod string) error {
		// client-go would try again for minutes.
		return client.CoreV1().RESTClient().Post().Namespace("default").Resource("pods").Name(pod).SubResource("eviction").
			Body(&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod}}).MaxRetries(0).Do(ctx).Error()
	}
	refused := func(pod, why string) {
		t.Helper()
		err := evict(pod)
		var status *apierrors.StatusError
		if !apierrors.IsTooManyRequests(err) || !errors.As(err, &status) || err.Error() != overBudget || !strings.Contains(status.ErrStatus.Details.Causes[0].Message, why) {
			t.Errorf("eviction of %s: %v, want %q because %q", pod, err, overBudget, why)
		}
	}
	refused("a", "is still being processed by the server")
	budget.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: 1, CurrentHealthy: 2, DesiredHealthy: 1, ExpectedPods: 2, DisruptionsAllowed: 1}
	if _, err := budgets.UpdateStatus(ctx, budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := evict("a"); err != nil {
		t.Fatal(err)
	}
	pod, err := pods.Get(ctx, "a", metav1.GetOptions{})
	if err != nil || pod.DeletionTimestamp == nil || pod.Status.Conditions[len(pod.Status.Conditions)-1].Reason != "EvictionByEvictionAPI" {
		t.Errorf("evicted pod: %+v, %v", pod.Status.Conditions, err)
	}
	refused("b", "needs 1 healthy pods and has 2 currently")
	budget, err = budgets.Get(ctx, "db", metav1.GetOptions{})
	if _, noted := budget.Status.DisruptedPods["a"]; err != nil || !noted {
		t.Errorf("budget: %+v, %v", budget.Status, err)
	}
}
