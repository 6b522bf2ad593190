package apiserver

import (
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// bob is an admin of the namespace default. He gives what he has, and no more,
// until he is told that he may.
func TestNoEscalation(t *testing.T) {
	c := startServer(t)
	ctx, admin := t.Context(), c.admin().RbacV1()
	bind := func(name, role string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}},
		}
	}
	if _, err := admin.RoleBindings("default").Create(ctx, bind("bob", "admin"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(c.config("bob"))
	if err != nil {
		t.Fatal(err)
	}
	bob := client.RbacV1()
	role := func(name, group, resource string, verbs ...string) *rbacv1.Role {
		return &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}}}
	}
	if _, err := bob.Roles("default").Create(ctx, role("secrets", "", "secrets", "get", "delete"), metav1.CreateOptions{}); err != nil {
		t.Errorf("what bob has: %v", err)
	}
	_, err = bob.Roles("default").Create(ctx, role("more", "example.com", "things", "get", "list"), metav1.CreateOptions{})
	want := `roles.rbac.authorization.k8s.io "more" is forbidden: user "bob" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:
{APIGroups:["example.com"], Resources:["things"], Verbs:["get" "list"]}`
	if err == nil || err.Error() != want {
		t.Errorf("more than bob has:\n%v\nwant\n%s", err, want)
	}
	_, err = bob.RoleBindings("default").Create(ctx, bind("root", "cluster-admin"), metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `{APIGroups:["*"], Resources:["*"], Verbs:["*"]}`) {
		t.Errorf("bob makes himself root: %v", err)
	}
	lifting := role("lifting", rbacv1.GroupName, "clusterroles", "bind")
	lifting.Rules[0].ResourceNames = []string{"cluster-admin"}
	if _, err := admin.Roles("default").Create(ctx, lifting, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	allowed := bind("lifting", "lifting")
	allowed.RoleRef.Kind = "Role"
	if _, err := admin.RoleBindings("default").Create(ctx, allowed, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err = bob.RoleBindings("default").Create(ctx, bind("root", "cluster-admin"), metav1.CreateOptions{}); err != nil {
		t.Errorf("bob may bind cluster-admin now: %v", err)
	}
}
