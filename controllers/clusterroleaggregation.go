package controllers

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	rbacapply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"
	rbaclisters "k8s.io/client-go/listers/rbac/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// roleAggregator fills ClusterRoles which have no rules of their own but an aggregationRule: the labels of
// the roles to put together. Who adds a kind to the cluster also adds a role labelled
//
//	rbac.authorization.k8s.io/aggregate-to-edit: "true"
//
// and from then on everybody bound to the role edit may edit objects of that kind.
type roleAggregator struct {
	client kubernetes.Interface
	roles  rbaclisters.ClusterRoleLister
}

func clusterRoleAggregation(c *cluster) loop {
	roles := c.informers.Rbac().V1().ClusterRoles()
	r := &roleAggregator{client: c.client, roles: roles.Lister()}
	queue := reconcile.New("clusterrole-aggregation", r.sync)
	kube.OnChange(roles.Informer(), func(_, _ *rbacv1.ClusterRole) {
		// Any role can be a part of any aggregate, and aggregates of others: view is in edit, edit in admin.
		all, _ := r.roles.List(everything)
		for _, role := range all {
			if role.AggregationRule != nil {
				queue.Add(role.Name)
			}
		}
	})
	return func(ctx context.Context) { queue.Run(ctx, 1) }
}

func (r *roleAggregator) sync(ctx context.Context, name string) error {
	role, err := r.roles.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || role.AggregationRule == nil {
		return err
	}
	all, err := r.roles.List(everything)
	if err != nil {
		return err
	}
	rules, err := aggregatedRules(role, all)
	if err != nil {
		return fmt.Errorf("aggregate ClusterRole %s: %w", name, err)
	}
	if equality.Semantic.DeepEqual(rules, role.Rules) {
		return nil
	}
	wanted := rbacapply.ClusterRole(name)
	for _, rule := range rules {
		wanted.WithRules(rbacapply.PolicyRule().WithVerbs(rule.Verbs...).WithAPIGroups(rule.APIGroups...).WithResources(rule.Resources...).
			WithResourceNames(rule.ResourceNames...).WithNonResourceURLs(rule.NonResourceURLs...))
	}
	_, err = r.client.RbacV1().ClusterRoles().Apply(ctx, wanted, metav1.ApplyOptions{FieldManager: "clusterrole-aggregation-controller", Force: true})
	if err != nil {
		return fmt.Errorf("apply rules of ClusterRole %s: %w", name, err)
	}
	slog.Info("aggregated cluster role", "role", name, "rules", len(rules))
	return nil
}

// aggregatedRules puts together the rules of all roles which the aggregationRule of role selects, each rule
// once, in the order of selectors and of names.
func aggregatedRules(role *rbacv1.ClusterRole, all []*rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	sorted := slices.SortedFunc(slices.Values(all), func(a, b *rbacv1.ClusterRole) int { return cmp.Compare(a.Name, b.Name) })
	var rules []rbacv1.PolicyRule
	for i := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&role.AggregationRule.ClusterRoleSelectors[i])
		if err != nil {
			return nil, fmt.Errorf("read clusterRoleSelectors[%d]: %w", i, err)
		}
		for _, part := range sorted {
			if part.Name == role.Name || !selector.Matches(labels.Set(part.Labels)) {
				continue
			}
			for _, rule := range part.Rules {
				if !slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
					rules = append(rules, rule)
				}
			}
		}
	}
	return rules, nil
}
