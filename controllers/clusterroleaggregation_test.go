package controllers

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAggregatedRules(t *testing.T) {
	rule := func(verb, resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{resource}}
	}
	role := func(name, label string, rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{label: "true"}}, Rules: rules}
	}
	edit := role("edit", "to-edit", rule("get", "stale")) // selects itself, which does not count
	edit.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
		{MatchLabels: map[string]string{"to-edit": "true"}}, {MatchLabels: map[string]string{"to-view": "true"}},
	}}
	all := []*rbacv1.ClusterRole{
		role("z-part", "to-edit", rule("update", "pods"), rule("get", "pods")),
		role("view", "to-view", rule("get", "pods"), rule("list", "pods")),
		edit,
		role("a-part", "to-edit", rule("create", "pods")),
		role("stranger", "to-admin", rule("*", "secrets")),
	}
	got, err := aggregatedRules(edit, all)
	want := []rbacv1.PolicyRule{rule("create", "pods"), rule("update", "pods"), rule("get", "pods"), rule("list", "pods")}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("error %v, rules (-want +got):\n%s", err, diff)
	}
	edit.AggregationRule.ClusterRoleSelectors[1].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Sideways"}}
	if _, err := aggregatedRules(edit, all); err == nil {
		t.Error("a selector with an unknown operator is taken")
	}
}
