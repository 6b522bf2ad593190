package apiserver

import (
	"context"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
)

// grantsOnlyOwn refuses a role or binding which gives more than its writer has.
// Two rights lift that: the verb escalate on a role, the verb bind on the role
// that a binding refers to. current is nil on create.
func (s *Server) grantsOnlyOwn(ctx context.Context, kind *resource.Kind, obj, current resource.Object) error {
	user := auth.UserOf(ctx)
	if user.Name == auth.Anonymous { // the server itself; nobody else comes this far without a name
		return nil
	}
	rules, lifted := s.granted(user, kind, obj, current)
	if len(rules) == 0 || lifted != nil && s.may(lifted) {
		return nil
	}
	if err := s.authorizer.Escalates(user, obj.GetNamespace(), rules); err != nil {
		return apierrors.NewForbidden(kind.GR(), obj.GetName(), err)
	}
	return nil
}

func (s *Server) may(a *auth.Attributes) bool {
	ok, _ := s.authorizer.Allowed(a)
	return ok
}

// granted are the rules that a write gives somebody, and the right that lets
// the user give them without having them.
func (s *Server) granted(user *auth.User, kind *resource.Kind, obj, current resource.Object) ([]rbacv1.PolicyRule, *auth.Attributes) {
	escalate := &auth.Attributes{User: user, Verb: "escalate", Group: rbacv1.GroupName, Resource: kind.Plural, Namespace: obj.GetNamespace(), Name: obj.GetName()}
	switch o := obj.(type) {
	case *rbacv1.Role:
		if current == nil || !equal(o.Rules, current.(*rbacv1.Role).Rules) {
			return o.Rules, escalate
		}
	case *rbacv1.ClusterRole:
		if current != nil && sameSpec(o, current) {
			return nil, nil
		}
		if o.AggregationRule != nil {
			return auth.Full, escalate
		}
		return o.Rules, escalate
	case *rbacv1.RoleBinding:
		if current == nil || !sameSpec(o, current) {
			return s.authorizer.RulesOf(o.RoleRef, o.Namespace), bindRight(user, o.RoleRef, o.Namespace)
		}
	case *rbacv1.ClusterRoleBinding:
		if current == nil || !sameSpec(o, current) {
			return s.authorizer.RulesOf(o.RoleRef, ""), bindRight(user, o.RoleRef, "")
		}
	}
	return nil, nil
}

func bindRight(user *auth.User, ref rbacv1.RoleRef, namespace string) *auth.Attributes {
	plural := resource.ClusterRole.Plural
	if ref.Kind == resource.Role.Kind {
		plural = resource.Role.Plural
	}
	return &auth.Attributes{User: user, Verb: "bind", Group: rbacv1.GroupName, Resource: plural, Namespace: namespace, Name: ref.Name}
}
