package apiserver

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podarium/podarium/apiserver/resource"
)

// restrictNode keeps a kubelet to its own Node and the pods on it
// (NodeRestriction). The node authorizer has allowed the kind of request; here
// the object is at hand. current is nil on create.
func (s *Server) restrictNode(ctx context.Context, kind *resource.Kind, obj, current resource.Object, subresource string) error {
	node := isNode(ctx)
	if node == "" {
		return nil
	}
	deny := func(format string, args ...any) error {
		return apierrors.NewForbidden(kind.GR(), obj.GetName(), fmt.Errorf(format, args...))
	}
	switch o := obj.(type) {
	case *corev1.Node:
		if o.Name != node {
			return deny("node %q is not allowed to modify node %q", node, o.Name)
		}
		if current != nil {
			return restrictNodeChange(node, o, current.(*corev1.Node), deny)
		}
	case *corev1.Pod:
		if current == nil {
			return restrictMirrorPod(node, o, deny)
		}
		if on := current.(*corev1.Pod).Spec.NodeName; on != node {
			return deny("node %q can only update pod status for pods with spec.nodeName set to itself", node)
		}
	}
	return nil
}

// restrictNodeChange: a kubelet must not take the taints off its node, nor
// label it as something that attracts other people's pods.
func restrictNodeChange(node string, n, old *corev1.Node, deny func(string, ...any) error) error {
	if !equal(n.Spec.Taints, old.Spec.Taints) {
		return deny("node %q is not allowed to modify taints", node)
	}
	for key, value := range n.Labels {
		if old.Labels[key] != value && strings.Contains(key, "node-restriction.kubernetes.io/") {
			return deny("is not allowed to modify labels: %s", key)
		}
	}
	return nil
}

// restrictMirrorPod: the only pods a kubelet creates are images of the static
// pods it runs already.
func restrictMirrorPod(node string, pod *corev1.Pod, deny func(string, ...any) error) error {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; !mirror {
		return deny("pod does not have %q annotation, node %q can only create mirror pods", corev1.MirrorPodAnnotationKey, node)
	}
	if pod.Spec.NodeName != node {
		return deny("node %q can only create pods with spec.nodeName set to itself", node)
	}
	if pod.Spec.ServiceAccountName != "" {
		return deny("node %q can not create pods that reference a service account", node)
	}
	return nil
}

// restrictNodeDelete: and it deletes the pods on its node alone.
func (s *Server) restrictNodeDelete(ctx context.Context, kind *resource.Kind, namespace, name string) error {
	node := isNode(ctx)
	if node == "" {
		return nil
	}
	deny := func(format string, args ...any) error {
		return apierrors.NewForbidden(kind.GR(), name, fmt.Errorf(format, args...))
	}
	switch kind {
	case resource.Node:
		if name != node {
			return deny("node %q is not allowed to modify node %q", node, name)
		}
	case resource.Pod:
		obj, err := s.lookup(ctx, resource.Pod, namespace, name)
		if err != nil {
			return err
		}
		if on := obj.(*corev1.Pod).Spec.NodeName; on != node {
			return deny("node %q can only delete pods with spec.nodeName set to itself", node)
		}
	}
	return nil
}

// givePriority turns the name of a priority into its number, which the
// scheduler compares.
func (s *Server) givePriority(pod *corev1.Pod) error {
	policy := corev1.PreemptLowerPriority
	var value int32
	name := pod.Spec.PriorityClassName
	if name == "" {
		for _, obj := range s.store.CachedList(resource.PriorityClass.Prefix, resource.PriorityClass.Prefix) {
			if c := obj.(*schedulingv1.PriorityClass); c.GlobalDefault {
				pod.Spec.PriorityClassName, value = c.Name, c.Value
				if c.PreemptionPolicy != nil {
					policy = *c.PreemptionPolicy
				}
			}
		}
	} else {
		obj, ok := s.store.Cached(resource.PriorityClass.Key("", name))
		if !ok {
			return apierrors.NewForbidden(resource.Pod.GR(), pod.Name, fmt.Errorf("no PriorityClass with name %v was found", name))
		}
		c := obj.(*schedulingv1.PriorityClass)
		value = c.Value
		if c.PreemptionPolicy != nil {
			policy = *c.PreemptionPolicy
		}
	}
	if pod.Spec.Priority != nil && *pod.Spec.Priority != value {
		return apierrors.NewForbidden(resource.Pod.GR(), pod.Name, fmt.Errorf("the integer value of priority (%d) must not be provided in pod spec; priority admission controller computed %d from the given PriorityClass name", *pod.Spec.Priority, value))
	}
	pod.Spec.Priority = &value
	if pod.Spec.PreemptionPolicy == nil {
		pod.Spec.PreemptionPolicy = &policy
	}
	return nil
}
