package apiserver

import (
	"context"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// routeSubresource finds who answers for a part of an object, such as
// pods/web/log or deployments/web/scale.
func (s *Server) routeSubresource(w http.ResponseWriter, r *request) error {
	if !r.kind.HasSubresource(r.subresource) {
		return errNoSuchPath
	}
	if r.kind.Namespaced && r.namespace == "" {
		return errMethod
	}
	switch r.subresource {
	case "status", "ephemeralcontainers", "approval":
		return s.part(w, r)
	case "proxy":
		return s.proxy(w, r)
	case "scale":
		return s.scale(w, r)
	case "finalize":
		if r.verb == "update" {
			return s.update(w, r)
		}
		return errMethod
	case "log", "exec", "attach", "portforward":
		return s.proxyToKubelet(w, r)
	}
	if r.verb != "create" {
		return errMethod
	}
	switch r.subresource {
	case "binding":
		return s.bind(w, r)
	case "eviction":
		return s.evict(w, r)
	case "token":
		return s.token(w, r)
	}
	return errNoSuchPath
}

// part answers for a part of an object that is read and written as the whole
// object; keepParts leaves everything else as it was.
func (s *Server) part(w http.ResponseWriter, r *request) error {
	switch r.verb {
	case "get":
		return s.get(w, r)
	case "update":
		return s.update(w, r)
	case "patch":
		return s.patch(w, r)
	}
	return errMethod
}

// decodePart reads the body of a subresource, which is an object of another kind.
func decodePart[T runtime.Object](r *request, gvk schema.GroupVersionKind, into T) (T, error) {
	body, err := readBody(r.Request)
	if err != nil {
		return into, err
	}
	obj, _, err := decodeBody(r.Header.Get("Content-Type"), body, gvk, into, metav1.FieldValidationIgnore)
	if err != nil {
		return into, err
	}
	part, ok := obj.(T)
	if !ok {
		return into, badRequest("%s cannot be handled as a %s", obj.GetObjectKind().GroupVersionKind().Kind, gvk.Kind)
	}
	return part, nil
}

// bind answers POST pods/NAME/binding: the scheduler's decision. It is written
// once; a second scheduler comes too late.
func (s *Server) bind(w http.ResponseWriter, r *request) error {
	o, err := writeOptionsOf(r.Request, "CreateOptions")
	if err != nil {
		return err
	}
	binding, err := decodePart(r, corev1.SchemeGroupVersion.WithKind("Binding"), &corev1.Binding{})
	if err != nil {
		return err
	}
	name := r.name
	if name == "" {
		name = binding.Name
	}
	if err := bindPod(r.Context(), s.store, r.namespace, name, binding, o.dryRun); err != nil {
		return apiError(err, resource.Pod.GR(), name)
	}
	s.respond(w, r.Request, http.StatusCreated, &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess, Code: http.StatusCreated,
	})
	return nil
}

// bindings is the older way to bind: POST …/bindings, where the object's name
// is the pod's.
var bindings = corev1.SchemeGroupVersion.WithResource("bindings")

func (s *Server) bindNamed(w http.ResponseWriter, r *request) error {
	if r.verb != "create" || r.name != "" || r.namespace == "" {
		return errMethod
	}
	return s.bind(w, r)
}

func bindPod(ctx context.Context, st *store.Store, namespace, name string, b *corev1.Binding, dryRun bool) error {
	gr := schema.GroupResource{Resource: "pods/binding"}
	_, err := st.Modify(ctx, resource.Pod.Key(namespace, name), func(current store.Object) (store.Write, error) {
		if current == nil {
			return store.Write{}, apierrors.NewNotFound(resource.Pod.GR(), name)
		}
		pod := current.DeepCopyObject().(*corev1.Pod)
		switch {
		case b.UID != "" && b.UID != pod.UID:
			return store.Write{}, apierrors.NewConflict(gr, name, fmt.Errorf("pod %s has another uid: %s, not %s", name, pod.UID, b.UID))
		case pod.DeletionTimestamp != nil:
			return store.Write{}, apierrors.NewConflict(gr, name, fmt.Errorf("pod %s is being deleted, cannot be assigned to a host", name))
		case pod.Spec.NodeName != "":
			return store.Write{}, apierrors.NewConflict(gr, name, fmt.Errorf("pod %s is already assigned to node %q", name, pod.Spec.NodeName))
		case b.Target.Name == "":
			return store.Write{}, badRequest("binding of pod %s names no node", name)
		}
		pod.Spec.NodeName = b.Target.Name
		pod.Status.NominatedNodeName = "" // the room that was kept for it is taken now
		for k, v := range b.Annotations {
			metav1.SetMetaDataAnnotation(&pod.ObjectMeta, k, v)
		}
		setPodCondition(pod, corev1.PodScheduled, corev1.ConditionTrue)
		return store.Write{Object: pod, DryRun: dryRun}, nil
	})
	return err
}

func setPodCondition(pod *corev1.Pod, kind corev1.PodConditionType, status corev1.ConditionStatus) {
	condition := corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: metav1.Now().Rfc3339Copy()}
	for i, have := range pod.Status.Conditions {
		if have.Type != kind {
			continue
		}
		if have.Status == status {
			condition.LastTransitionTime = have.LastTransitionTime
		}
		pod.Status.Conditions[i] = condition
		return
	}
	pod.Status.Conditions = append(pod.Status.Conditions, condition)
}
