package auth

import (
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Nobody gives rights that he does not have himself: else the right to make
// roles would be the right to everything. Upstream's words are kept, for they
// tell which rights are missing.

// Full are the rights to everything. A role that collects the rules of others by
// label can grow to this at any time.
var Full = []rbacv1.PolicyRule{
	{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
	{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}},
}

// Escalates returns an error that tells the rules which the user does not have
// in the namespace ("" for everywhere), or nil.
func (z *Authorizer) Escalates(u *User, namespace string, rules []rbacv1.PolicyRule) error {
	if u.In(GroupMasters) {
		return nil
	}
	have := z.RulesFor(u, namespace)
	var missing []string
	for i := range rules {
		for _, text := range lacking(have, &rules[i]) {
			if !slices.Contains(missing, text) {
				missing = append(missing, text)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return fmt.Errorf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s", u.Name, u.Groups, strings.Join(missing, "\n"))
}

// RulesOf are the rules of the role that a binding in namespace refers to.
func (z *Authorizer) RulesOf(ref rbacv1.RoleRef, namespace string) []rbacv1.PolicyRule {
	return z.rulesOf(ref, namespace)
}

// lacking takes a rule apart into single rights and returns those that no rule
// of have covers, the verbs of one resource together.
func lacking(have []rule, want *rule) []string {
	var missing []string
	note := func(r rule, try func(verb string) Attributes) {
		for _, verb := range want.Verbs {
			a := try(verb)
			if !slices.ContainsFunc(have, func(h rule) bool { return covers(&h, &a) }) {
				r.Verbs = append(r.Verbs, verb)
			}
		}
		if len(r.Verbs) > 0 {
			missing = append(missing, ruleText(&r))
		}
	}
	for _, url := range want.NonResourceURLs {
		note(rule{NonResourceURLs: []string{url}}, func(verb string) Attributes { return Attributes{Verb: verb, Path: url} })
	}
	names := want.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	for _, group := range want.APIGroups {
		for _, resource := range want.Resources {
			for _, name := range names {
				one := rule{APIGroups: []string{group}, Resources: []string{resource}}
				if name != "" {
					one.ResourceNames = []string{name}
				}
				note(one, func(verb string) Attributes {
					return Attributes{Verb: verb, Group: group, Resource: resource, Name: name}
				})
			}
		}
	}
	return missing
}

// ruleText: {APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}.
func ruleText(r *rule) string {
	var parts []string
	for _, field := range []struct {
		name   string
		values []string
	}{{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs}, {"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs}} {
		if len(field.values) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", field.name, field.values))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
