package apiserver

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
)

// rbacObject is a role or a binding, as far as it says who may do what.
type rbacObject struct {
	Kind     string
	Metadata struct {
		Name, Namespace     string
		Labels, Annotations map[string]string
	}
	Rules           []rbacv1.PolicyRule
	AggregationRule *rbacv1.AggregationRule
	RoleRef         *rbacv1.RoleRef
	Subjects        []rbacv1.Subject
}

// ownBindings are what this server has more than Kubernetes.
var ownBindings = map[string]string{
	"ClusterRoleBinding//kubeadm:cluster-admins": "the group of the administrator's certificate; kubeadm makes it when it makes a cluster",
}

// A new server has every role and binding of Kubernetes 1.36, rule by rule,
// with its labels and annotations, and nothing more than what is named here.
func TestBootstrapRoles(t *testing.T) {
	text, err := os.ReadFile("testdata/rbac.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []rbacObject
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	want := map[string]rbacObject{}
	for _, o := range list {
		want[o.Kind+"/"+o.Metadata.Namespace+"/"+o.Metadata.Name] = o
	}
	if len(want) < 130 {
		t.Errorf("%d objects to compare with are too few", len(want))
	}
	for key, got := range bootstrapRoles(t) {
		expected, ok := want[key]
		if !ok && ownBindings[key] == "" {
			t.Errorf("%s is not in Kubernetes", key)
			continue
		}
		delete(want, key)
		if !ok {
			continue
		}
		got.Subjects = slices.DeleteFunc(got.Subjects, func(s rbacv1.Subject) bool { return sharedController(key, s) })
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s (- Kubernetes, + ours)\n%s", key, diff)
		}
	}
	for key := range want {
		t.Errorf("%s is missing", key)
	}
}

// sharedController: the controllers here share the controller manager's
// identity, where those of kubeadm each have a ServiceAccount. The binding of
// each names both.
func sharedController(key string, s rbacv1.Subject) bool {
	return strings.Contains(key, "/system:controller:") && s == rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: auth.ControllerManager}
}

// bootstrapRoles are what a client of a new server sees.
func bootstrapRoles(t *testing.T) map[string]rbacObject {
	t.Helper()
	c := startServer(t)
	client, all := c.http("kubernetes-admin", []string{"system:masters"}), map[string]rbacObject{}
	for _, kind := range []*resource.Kind{resource.ClusterRole, resource.ClusterRoleBinding, resource.Role, resource.RoleBinding} {
		var list struct{ Items []rbacObject }
		getJSON(t, client, c.url+"/apis/rbac.authorization.k8s.io/v1/"+kind.Plural, mediaJSON, &list)
		for _, o := range list.Items {
			o.Kind = kind.Kind
			all[kind.Kind+"/"+o.Metadata.Namespace+"/"+o.Metadata.Name] = o
		}
	}
	return all
}
