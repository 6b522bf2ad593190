package auth

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/podarium/podarium/apiserver/resource"
)

type rule = rbacv1.PolicyRule

// rbacAllows looks through all bindings for one that names the user and whose
// role has a rule for the request. ClusterRoleBindings hold everywhere,
// RoleBindings in their own namespace. There is no rule that forbids.
func (z *Authorizer) rbacAllows(a *Attributes) (bool, string) {
	allowed, reason := false, ""
	z.eachRule(a.User, a.Namespace, func(r *rule, by binding) bool {
		if covers(r, a) {
			allowed, reason = true, "RBAC: allowed by "+by.String()
		}
		return !allowed
	})
	return allowed, reason
}

// RulesFor lists what a user may do in a namespace.
func (z *Authorizer) RulesFor(u *User, namespace string) []rbacv1.PolicyRule {
	var list []rbacv1.PolicyRule
	z.eachRule(u, namespace, func(r *rule, _ binding) bool {
		list = append(list, *r)
		return true
	})
	return list
}

// binding says to whom a role is given. It is put into words only when it is
// the one that decides.
type binding struct {
	kind, name string
	role       rbacv1.RoleRef
	subject    rbacv1.Subject
}

func (b binding) String() string {
	subject := b.subject.Name
	if b.subject.Kind == rbacv1.ServiceAccountKind {
		subject += "/" + b.subject.Namespace
	}
	return fmt.Sprintf("%s %q of %s %q to %s %q", b.kind, b.name, b.role.Kind, b.role.Name, b.subject.Kind, subject)
}

// eachRule calls visit with every rule that is bound to the user, until visit
// has seen enough.
func (z *Authorizer) eachRule(u *User, namespace string, visit func(r *rule, by binding) bool) {
	for _, obj := range z.objects.CachedList(resource.ClusterRoleBinding.Prefix, resource.ClusterRoleBinding.Prefix) {
		b := obj.(*rbacv1.ClusterRoleBinding)
		if s, ok := subjectFor(b.Subjects, u, ""); ok && !z.visitRole("", binding{"ClusterRoleBinding", b.Name, b.RoleRef, s}, visit) {
			return
		}
	}
	if namespace == "" {
		return
	}
	for _, obj := range z.objects.CachedList(resource.RoleBinding.Prefix, resource.RoleBinding.Under(namespace)) {
		b := obj.(*rbacv1.RoleBinding)
		if s, ok := subjectFor(b.Subjects, u, namespace); ok && !z.visitRole(namespace, binding{"RoleBinding", b.Name + "/" + namespace, b.RoleRef, s}, visit) {
			return
		}
	}
}

func (z *Authorizer) visitRole(namespace string, by binding, visit func(*rule, binding) bool) bool {
	rules := z.rulesOf(by.role, namespace)
	for i := range rules {
		if !visit(&rules[i], by) {
			return false
		}
	}
	return true
}

func (z *Authorizer) rulesOf(ref rbacv1.RoleRef, namespace string) []rule {
	if ref.Kind == "Role" {
		if obj, ok := z.objects.Cached(resource.Role.Key(namespace, ref.Name)); ok {
			return obj.(*rbacv1.Role).Rules
		}
		return nil
	}
	obj, ok := z.objects.Cached(resource.ClusterRole.Key("", ref.Name))
	if !ok {
		return nil
	}
	return z.aggregated(obj.(*rbacv1.ClusterRole), 0)
}

// aggregated are a role's rules. Those of admin, edit and view a controller
// puts together of all roles that carry a label saying so
// ("rbac.authorization.k8s.io/aggregate-to-edit"); until it has, it is done here.
func (z *Authorizer) aggregated(role *rbacv1.ClusterRole, depth int) []rule {
	const deepest = 3 // admin ◀ edit ◀ view
	if role.AggregationRule == nil || len(role.Rules) > 0 || depth > deepest {
		return role.Rules
	}
	var rules []rule
	for _, want := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&want)
		if err != nil {
			continue
		}
		for _, obj := range z.objects.CachedList(resource.ClusterRole.Prefix, resource.ClusterRole.Prefix) {
			if part := obj.(*rbacv1.ClusterRole); part.Name != role.Name && selector.Matches(labels.Set(part.Labels)) {
				rules = append(rules, z.aggregated(part, depth+1)...)
			}
		}
	}
	return rules
}

// subjectFor returns the subject that means the user. A ServiceAccount without
// a namespace is one of the binding's.
func subjectFor(subjects []rbacv1.Subject, u *User, namespace string) (rbacv1.Subject, bool) {
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			if s.Name == u.Name {
				return s, true
			}
		case rbacv1.GroupKind:
			if u.In(s.Name) {
				return s, true
			}
		case rbacv1.ServiceAccountKind:
			if s.Namespace == "" {
				s.Namespace = namespace
			}
			if u.Name == ServiceAccountUser(s.Namespace, s.Name) {
				return s, true
			}
		}
	}
	return rbacv1.Subject{}, false
}

// covers reports whether one rule allows the request.
func covers(r *rule, a *Attributes) bool {
	if !oneOf(r.Verbs, a.Verb) {
		return false
	}
	if a.Resource == "" {
		return slices.ContainsFunc(r.NonResourceURLs, func(url string) bool { return pathMatches(url, a.Path) })
	}
	if !oneOf(r.APIGroups, a.Group) || !resourceMatches(r.Resources, a.Resource) {
		return false
	}
	return len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name)
}

func oneOf(list []string, want string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, want)
}

// resourceMatches: "pods/log" is matched by itself, by "*" and by "*/log".
func resourceMatches(list []string, want string) bool {
	if oneOf(list, want) {
		return true
	}
	_, sub, ok := strings.Cut(want, "/")
	return ok && slices.Contains(list, "*/"+sub)
}

// pathMatches: "/healthz/*" means everything below.
func pathMatches(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}
