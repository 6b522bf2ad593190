package auth

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/apiserver/resource"
)

const nodeUserPrefix = "system:node:"

// nodeName is the node whose kubelet the user is.
func nodeName(u *User) (string, bool) {
	name, ok := strings.CutPrefix(u.Name, nodeUserPrefix)
	return name, ok && u.In(GroupNodes)
}

// NodeOf is the node whose kubelet the user is, or "".
func NodeOf(u *User) string {
	if name, ok := nodeName(u); ok {
		return name
	}
	return ""
}

// nodeMay is the node authorizer: a kubelet may do what the role system:node
// says, but read Secrets, ConfigMaps and other pods' things only as far as
// pods on its own node need them. So who breaks into one node gets that node's
// secrets, and not the cluster's.
//
// What a kubelet may write of its own Node and pods is checked with the object
// at hand, in admission (NodeRestriction).
func (z *Authorizer) nodeMay(node string, a *Attributes) (bool, string) {
	if a.Group == "coordination.k8s.io" && a.Resource == "leases" {
		return ownLease(node, a)
	}
	if a.Group != "" {
		return z.roleAllows(a), ""
	}
	switch a.Resource {
	case "secrets":
		return z.referenced(node, a, podUsesSecret)
	case "configmaps":
		return z.referenced(node, a, podUsesConfigMap)
	case "serviceaccounts":
		return z.referenced(node, a, func(p *corev1.Pod, name string) bool { return p.Spec.ServiceAccountName == name })
	case "serviceaccounts/token":
		if a.Verb != "create" {
			return false, ""
		}
		return z.podOnNode(node, a.Namespace, func(p *corev1.Pod) bool { return p.Spec.ServiceAccountName == a.Name }), noRelationship(node)
	case "pods":
		if slices.Contains([]string{"list", "watch"}, a.Verb) && a.FieldSelector["spec.nodeName"] != node {
			return false, "can only list/watch pods with spec.nodeName field selector"
		}
	}
	return z.roleAllows(a), ""
}

func ownLease(node string, a *Attributes) (bool, string) {
	if a.Namespace != corev1.NamespaceNodeLease {
		return false, "can only access leases in the \"kube-node-lease\" system namespace"
	}
	switch a.Verb {
	case "create":
		return true, ""
	case "get", "update", "patch", "delete":
		if a.Name == node {
			return true, ""
		}
	}
	return false, "can only access node lease with the same name as the requesting node"
}

func noRelationship(node string) string {
	return "no relationship found between node '" + node + "' and this object"
}

// referenced: reading one object by name is allowed when a pod on the node
// uses it. A list or watch of a single name, by field selector, is the same.
func (z *Authorizer) referenced(node string, a *Attributes, uses func(p *corev1.Pod, name string) bool) (bool, string) {
	name := a.Name
	switch a.Verb {
	case "get":
	case "list", "watch":
		if name == "" {
			name = a.FieldSelector["metadata.name"]
		}
	default:
		return false, "can only read resources of this type"
	}
	if name == "" || a.Namespace == "" {
		return false, "can only read namespaced object of this type"
	}
	if z.podOnNode(node, a.Namespace, func(p *corev1.Pod) bool { return uses(p, name) }) {
		return true, ""
	}
	return false, noRelationship(node)
}

func (z *Authorizer) podOnNode(node, namespace string, match func(*corev1.Pod) bool) bool {
	for _, obj := range z.objects.CachedList(resource.Pod.Prefix, resource.Pod.Under(namespace)) {
		if p := obj.(*corev1.Pod); p.Spec.NodeName == node && match(p) {
			return true
		}
	}
	return false
}

func (z *Authorizer) roleAllows(a *Attributes) bool {
	for i := range z.nodeRules {
		if covers(&z.nodeRules[i], a) {
			return true
		}
	}
	return false
}

func podUsesSecret(p *corev1.Pod, name string) bool {
	for _, ref := range p.Spec.ImagePullSecrets {
		if ref.Name == name {
			return true
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.Secret != nil && v.Secret.SecretName == name {
			return true
		}
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.Secret != nil && s.Secret.Name == name }) {
			return true
		}
	}
	return anyContainer(p, func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.EnvFrom, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil && e.SecretRef.Name == name }) ||
			slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
				return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == name
			})
	})
}

func podUsesConfigMap(p *corev1.Pod, name string) bool {
	for _, v := range p.Spec.Volumes {
		if v.ConfigMap != nil && v.ConfigMap.Name == name {
			return true
		}
		if v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ConfigMap != nil && s.ConfigMap.Name == name
		}) {
			return true
		}
	}
	return anyContainer(p, func(c *corev1.Container) bool {
		return slices.ContainsFunc(c.EnvFrom, func(e corev1.EnvFromSource) bool {
			return e.ConfigMapRef != nil && e.ConfigMapRef.Name == name
		}) || slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil && e.ValueFrom.ConfigMapKeyRef.Name == name
		})
	})
}

func anyContainer(p *corev1.Pod, match func(*corev1.Container) bool) bool {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if match(&list[i]) {
				return true
			}
		}
	}
	return false
}
