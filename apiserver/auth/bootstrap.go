package auth

import (
	"bytes"
	_ "embed"
	"fmt"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"github.com/podarium/podarium/apiserver/resource"
)

//go:embed bootstrap.yaml
var bootstrapYAML []byte

// BootstrapObject is a role or binding that every cluster has.
type BootstrapObject struct {
	Kind   *resource.Kind
	Object resource.Object
}

var bootstrapKinds = map[string]*resource.Kind{
	"ClusterRole": resource.ClusterRole, "ClusterRoleBinding": resource.ClusterRoleBinding,
	"Role": resource.Role, "RoleBinding": resource.RoleBinding,
}

// ControllerManager is the user that all controllers run as.
const ControllerManager = "system:kube-controller-manager"

// Bootstrap returns the roles and bindings of bootstrap.yaml, and two things
// on top: the administrators that `kubeadm init` makes, and the rights of each
// single controller for the controller manager, whose controllers share one
// identity.
func Bootstrap() ([]BootstrapObject, error) {
	var list []BootstrapObject
	for i, doc := range bytes.Split(bootstrapYAML, []byte("\n---\n")) {
		var head struct{ Kind string }
		if err := yaml.Unmarshal(doc, &head); err != nil {
			return nil, fmt.Errorf("read bootstrap object %d: %w", i, err)
		}
		if head.Kind == "" { // the comment at the top
			continue
		}
		kind := bootstrapKinds[head.Kind]
		obj := kind.New()
		if err := yaml.Unmarshal(doc, obj); err != nil {
			return nil, fmt.Errorf("read bootstrap object %d: %w", i, err)
		}
		shareController(obj)
		list = append(list, BootstrapObject{kind, obj})
	}
	admins := &rbacv1.ClusterRoleBinding{
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: "kubeadm:cluster-admins"}},
	}
	admins.Name = "kubeadm:cluster-admins"
	return append(list, BootstrapObject{resource.ClusterRoleBinding, admins}), nil
}

// shareController adds the controller manager to a binding that is meant for
// one controller's ServiceAccount.
func shareController(obj resource.Object) {
	const controller = "system:controller:"
	switch b := obj.(type) {
	case *rbacv1.ClusterRoleBinding:
		if len(b.Name) > len(controller) && b.Name[:len(controller)] == controller {
			b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: ControllerManager})
		}
	case *rbacv1.RoleBinding:
		if len(b.Name) > len(controller) && b.Name[:len(controller)] == controller {
			b.Subjects = append(b.Subjects, rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: ControllerManager})
		}
	}
}

// nodeRules are the rules of the role system:node. Nobody is bound to it: the
// node authorizer applies them.
func nodeRules() ([]rule, error) {
	for doc := range bytes.SplitSeq(bootstrapYAML, []byte("\n---\n")) {
		if !bytes.Contains(doc, []byte("\n  name: system:node\n")) {
			continue
		}
		role := &rbacv1.ClusterRole{}
		if err := yaml.Unmarshal(doc, role); err != nil {
			return nil, fmt.Errorf("read role system:node: %w", err)
		}
		if len(role.Rules) > 0 {
			return role.Rules, nil
		}
	}
	return nil, fmt.Errorf("bootstrap.yaml has no role system:node")
}
