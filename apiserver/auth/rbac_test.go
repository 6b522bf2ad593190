package auth

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/apiserver/resource"
)

// objects is a store's content in a map.
type objects map[string]resource.Object

func (o objects) Cached(key string) (resource.Object, bool) {
	obj, ok := o[key]
	return obj, ok
}

func (o objects) CachedList(_, under string) []resource.Object {
	var list []resource.Object
	for key, obj := range o {
		if strings.HasPrefix(key, under) {
			list = append(list, obj)
		}
	}
	return list
}

func (o objects) add(kind *resource.Kind, obj resource.Object) {
	o[kind.Key(obj.GetNamespace(), obj.GetName())] = obj
}

// newCluster has the bootstrap roles, a pod web on node-1 which uses the Secret
// tls and the ServiceAccount app, and bob, who may edit in the namespace dev.
func newCluster(t *testing.T) *Authorizer {
	t.Helper()
	o := objects{}
	list, err := Bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		o.add(b.Kind, b.Object)
	}
	o.add(resource.Pod, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default"},
		Spec: corev1.PodSpec{NodeName: "node-1", ServiceAccountName: "app", Volumes: []corev1.Volume{
			{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "tls"}}},
		}},
	})
	o.add(resource.RoleBinding, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "bob", Namespace: "dev"},
		RoleRef:    rbacv1.RoleRef{Kind: "ClusterRole", Name: "edit"},
		Subjects:   []rbacv1.Subject{{Kind: "User", Name: "bob"}},
	})
	z, err := NewAuthorizer(o)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestAllowed(t *testing.T) {
	z := newCluster(t)
	node := func(n string) *User {
		return &User{Name: "system:node:" + n, Groups: []string{GroupNodes, GroupAuthenticated}}
	}
	user := func(name string, groups ...string) *User {
		return &User{Name: name, Groups: append(groups, GroupAuthenticated)}
	}
	bob, node1, node2 := user("bob"), node("node-1"), node("node-2")
	onNode := map[string]string{"spec.nodeName": "node-1"}
	for _, test := range []struct {
		name string
		a    Attributes
		want bool
	}{
		{"masters may do all", Attributes{User: user("x", GroupMasters), Verb: "delete", Resource: "nodes"}, true},
		{"the administrators of kubeadm too", Attributes{User: user("kubernetes-admin", "kubeadm:cluster-admins"), Verb: "get", Path: "/metrics"}, true},
		{"everybody sees discovery", Attributes{User: bob, Verb: "get", Path: "/apis/apps"}, true},
		{"not everybody sees metrics", Attributes{User: bob, Verb: "get", Path: "/metrics"}, false},
		{"bob edits in dev", Attributes{User: bob, Verb: "create", Resource: "pods", Namespace: "dev"}, true},
		{"edit includes view", Attributes{User: bob, Verb: "list", Resource: "services", Namespace: "dev"}, true},
		{"bob is nobody elsewhere", Attributes{User: bob, Verb: "get", Resource: "pods", Namespace: "default"}, false},
		{"nor in all namespaces", Attributes{User: bob, Verb: "list", Resource: "pods"}, false},
		{"edit does not make roles", Attributes{User: bob, Verb: "create", Group: rbacv1.GroupName, Resource: "roles", Namespace: "dev"}, false},
		{"the scheduler binds", Attributes{User: user("system:kube-scheduler"), Verb: "create", Resource: "pods/binding", Namespace: "default"}, true},
		{"the controllers make pods", Attributes{User: user(ControllerManager), Verb: "create", Resource: "pods", Namespace: "default"}, true},
		{"the proxy watches slices", Attributes{User: user("system:kube-proxy", "system:node-proxier"), Verb: "watch", Group: "discovery.k8s.io", Resource: "endpointslices"}, true},
		{"a node reads its pods' secrets", Attributes{User: node1, Verb: "get", Resource: "secrets", Namespace: "default", Name: "tls"}, true},
		{"and no others", Attributes{User: node1, Verb: "get", Resource: "secrets", Namespace: "default", Name: "other"}, false},
		{"another node does not", Attributes{User: node2, Verb: "get", Resource: "secrets", Namespace: "default", Name: "tls"}, false},
		{"no node lists secrets", Attributes{User: node1, Verb: "list", Resource: "secrets", Namespace: "default"}, false},
		{"a node watches its pods", Attributes{User: node1, Verb: "watch", Resource: "pods", FieldSelector: onNode}, true},
		{"not those of another", Attributes{User: node2, Verb: "watch", Resource: "pods", FieldSelector: onNode}, false},
		{"nor all", Attributes{User: node1, Verb: "watch", Resource: "pods"}, false},
		{"a node asks for its pods' tokens", Attributes{User: node1, Verb: "create", Resource: "serviceaccounts/token", Namespace: "default", Name: "app"}, true},
		{"another does not", Attributes{User: node2, Verb: "create", Resource: "serviceaccounts/token", Namespace: "default", Name: "app"}, false},
		{"a node renews its lease", Attributes{User: node1, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "node-1"}, true},
		{"not another's", Attributes{User: node1, Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease", Name: "node-2"}, false},
		{"a node's name alone makes no node", Attributes{User: user("system:node:node-1"), Verb: "get", Resource: "nodes"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, reason := z.Allowed(&test.a); got != test.want {
				t.Errorf("allowed: %v (%s)", got, reason)
			}
		})
	}
}
