package resource

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Names of roles may hold colons ("system:node"), so they only have to be one
// segment of a path.
func roleName(name string, prefix bool) []string { return path.ValidatePathSegmentName(name, prefix) } //nolint:staticcheck // upstream's words for it

var roleColumns = []metav1.TableColumnDefinition{column("Name", "string"), column("Created At", "date")}

var bindingColumns = []metav1.TableColumnDefinition{
	column("Name", "string"), column("Role", "string"), column("Age", "string"),
	wide("Users", "string"), wide("Groups", "string"), wide("ServiceAccounts", "string"),
}

// Role says what may be done in one namespace.
var Role = &Kind{
	GroupVersion: rbacv1.SchemeGroupVersion,
	Kind:         "Role", Plural: "roles", Singular: "role", Namespaced: true, Prefix: "/registry/roles/",
	MetaAgain: metaAround,
	New:       func() Object { return &rbacv1.Role{} },
	NewList:   func() runtime.Object { return &rbacv1.RoleList{} },
	Prepare:   onBoth(func(r, _ *rbacv1.Role) { r.Rules = nilIfEmpty(r.Rules) }),
	Validate:  check(validateRole),
	NameRule:  roleName, Columns: roleColumns,
	Row: func(o Object, _ time.Time) []any { return defaultRow(o) },
}

// ClusterRole says what may be done in the whole cluster, or, through a
// RoleBinding, in one namespace.
var ClusterRole = &Kind{
	GroupVersion: rbacv1.SchemeGroupVersion,
	Kind:         "ClusterRole", Plural: "clusterroles", Singular: "clusterrole", Prefix: "/registry/clusterroles/",
	MetaAgain: metaAround,
	New:       func() Object { return &rbacv1.ClusterRole{} },
	NewList:   func() runtime.Object { return &rbacv1.ClusterRoleList{} },
	Prepare:   onBoth(func(r, _ *rbacv1.ClusterRole) { r.Rules = nilIfEmpty(r.Rules) }),
	Validate:  check(validateClusterRole),
	NameRule:  roleName, Columns: roleColumns,
	Row: func(o Object, _ time.Time) []any { return defaultRow(o) },
}

// RoleBinding gives a role to users, groups and service accounts in one
// namespace.
var RoleBinding = &Kind{
	GroupVersion: rbacv1.SchemeGroupVersion,
	Kind:         "RoleBinding", Plural: "rolebindings", Singular: "rolebinding", Namespaced: true, Prefix: "/registry/rolebindings/",
	MetaAgain:      metaAround,
	New:            func() Object { return &rbacv1.RoleBinding{} },
	NewList:        func() runtime.Object { return &rbacv1.RoleBindingList{} },
	Default:        on(func(b *rbacv1.RoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
	Validate:       check(validateRoleBinding),
	ValidateChange: check(func(b, old *rbacv1.RoleBinding) field.ErrorList { return sameRole(b.RoleRef, old.RoleRef) }),
	NameRule:       roleName, Columns: bindingColumns,
	Row: row(func(b *rbacv1.RoleBinding, now time.Time) []any { return bindingRow(b, b.RoleRef, b.Subjects, now) }),
}

// ClusterRoleBinding gives a ClusterRole to somebody everywhere.
var ClusterRoleBinding = &Kind{
	GroupVersion: rbacv1.SchemeGroupVersion,
	Kind:         "ClusterRoleBinding", Plural: "clusterrolebindings", Singular: "clusterrolebinding", Prefix: "/registry/clusterrolebindings/",
	MetaAgain:      metaAround,
	New:            func() Object { return &rbacv1.ClusterRoleBinding{} },
	NewList:        func() runtime.Object { return &rbacv1.ClusterRoleBindingList{} },
	Default:        on(func(b *rbacv1.ClusterRoleBinding) { defaultBinding(&b.RoleRef, b.Subjects) }),
	Validate:       check(validateClusterRoleBinding),
	ValidateChange: check(func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList { return sameRole(b.RoleRef, old.RoleRef) }),
	NameRule:       roleName, Columns: bindingColumns,
	Row: row(func(b *rbacv1.ClusterRoleBinding, now time.Time) []any {
		return bindingRow(b, b.RoleRef, b.Subjects, now)
	}),
}

func defaultBinding(ref *rbacv1.RoleRef, subjects []rbacv1.Subject) {
	set(&ref.APIGroup, rbacv1.GroupName)
	for i := range subjects {
		if subjects[i].Kind != rbacv1.ServiceAccountKind {
			set(&subjects[i].APIGroup, rbacv1.GroupName)
		}
	}
}

func bindingRow(obj Object, ref rbacv1.RoleRef, subjects []rbacv1.Subject, now time.Time) []any {
	var users, groups, accounts []string
	for _, s := range subjects {
		switch s.Kind {
		case rbacv1.UserKind:
			users = append(users, s.Name)
		case rbacv1.GroupKind:
			groups = append(groups, s.Name)
		case rbacv1.ServiceAccountKind:
			accounts = append(accounts, s.Namespace+"/"+s.Name)
		}
	}
	return []any{
		obj.GetName(), ref.Kind + "/" + ref.Name, created(obj, now),
		strings.Join(users, ", "), strings.Join(groups, ", "), strings.Join(accounts, ", "),
	}
}
