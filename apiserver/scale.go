package apiserver

import (
	"encoding/json"
	"mime"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podarium/podarium/apiserver/resource"
)

var scaleKind = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// scale answers for the one number that all workloads have: how many pods.
// `kubectl scale` and autoscalers need not know what they scale.
func (s *Server) scale(w http.ResponseWriter, r *request) error {
	switch r.verb {
	case "get":
		obj, err := s.store.Get(r.Context(), r.kind.Key(r.namespace, r.name))
		if err != nil {
			return apiError(err, r.kind.GR(), r.name)
		}
		s.respond(w, r.Request, http.StatusOK, scaleOf(obj))
		return nil
	case "update", "patch":
		return s.setScale(w, r)
	}
	return errMethod
}

func (s *Server) setScale(w http.ResponseWriter, r *request) error {
	o, err := writeOptionsOf(r.Request, map[string]string{"update": "UpdateOptions", "patch": "PatchOptions"}[r.verb])
	if err != nil {
		return err
	}
	next, err := s.wantedScale(r, &o)
	if err != nil {
		return err
	}
	done, err := s.modify(r.Context(), r.kind, r.namespace, r.name, r.subresource, o, func(current resource.Object) (resource.Object, error) {
		if current == nil {
			return nil, apierrors.NewNotFound(r.kind.GR(), r.name)
		}
		want, err := next(current)
		if err != nil {
			return nil, err
		}
		return scaled(r, current, want, o.applied)
	})
	if err != nil {
		return err
	}
	s.respond(w, r.Request, http.StatusOK, scaleOf(done))
	return nil
}

// scaled is the workload with what the Scale says; of an applied one it takes
// the owners, too.
func scaled(r *request, current resource.Object, want *autoscalingv1.Scale, applied bool) (resource.Object, error) {
	if errs := apivalidation.ValidateNonnegativeField(int64(want.Spec.Replicas), field.NewPath("spec", "replicas")); len(errs) > 0 {
		return nil, apierrors.NewInvalid(scaleKind.GroupKind(), r.name, errs)
	}
	obj := current.DeepCopyObject().(resource.Object)
	obj.SetResourceVersion(want.ResourceVersion)
	obj.SetUID(want.UID)
	setReplicas(obj, want.Spec.Replicas)
	if applied {
		owners, err := scaleOwners(r.kind, current).ToParent(want.ManagedFields)
		if err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		obj.SetManagedFields(owners)
	}
	return obj, nil
}

// wantedScale makes, of a PUT or a PATCH, a function from the current workload
// to the wanted Scale, and notes in o who writes.
func (s *Server) wantedScale(r *request, o *writeOptions) (func(current resource.Object) (*autoscalingv1.Scale, error), error) {
	if r.verb == "update" {
		o.fieldManager = managerOf(r.Request)
		want, err := decodePart(r, scaleKind, &autoscalingv1.Scale{})
		return func(resource.Object) (*autoscalingv1.Scale, error) { return want, nil }, err
	}
	body, err := readBody(r.Request)
	if err != nil {
		return nil, err
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	patchType := types.PatchType(mediaType)
	if patchType == types.ApplyPatchType {
		o.applied = true
		return s.appliedScale(r, *o, body)
	}
	o.fieldManager = managerOf(r.Request)
	return func(current resource.Object) (*autoscalingv1.Scale, error) {
		return patchedScale(scaleOf(current), patchType, body)
	}, checkPatch(patchType, body)
}

func patchedScale(current *autoscalingv1.Scale, patchType types.PatchType, body []byte) (*autoscalingv1.Scale, error) {
	before, err := json.Marshal(current)
	if err != nil {
		return nil, err
	}
	var after []byte
	switch patchType {
	case types.JSONPatchType:
		var ops jsonpatch.Patch
		if ops, err = jsonpatch.DecodePatch(body); err == nil {
			after, err = ops.Apply(before)
		}
	case types.MergePatchType:
		after, err = jsonpatch.MergePatch(before, body)
	default:
		after, err = strategicpatch.StrategicMergePatch(before, body, &autoscalingv1.Scale{})
	}
	if err != nil {
		return nil, badRequest("%v", err)
	}
	want := &autoscalingv1.Scale{}
	if err := json.Unmarshal(after, want); err != nil {
		return nil, badRequest("%v", err)
	}
	return want, nil
}

func scaleOf(obj resource.Object) *autoscalingv1.Scale {
	scale := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
	}}
	scale.SetGroupVersionKind(schema.GroupVersionKind{Group: "autoscaling", Version: "v1", Kind: "Scale"})
	selector := labels.Everything()
	switch o := obj.(type) {
	case *corev1.ReplicationController:
		scale.Spec.Replicas, scale.Status.Replicas = deref(o.Spec.Replicas), o.Status.Replicas
		selector = labels.SelectorFromSet(o.Spec.Selector)
	case *appsv1.ReplicaSet:
		scale.Spec.Replicas, scale.Status.Replicas = deref(o.Spec.Replicas), o.Status.Replicas
		selector, _ = metav1.LabelSelectorAsSelector(o.Spec.Selector)
	case *appsv1.Deployment:
		scale.Spec.Replicas, scale.Status.Replicas = deref(o.Spec.Replicas), o.Status.Replicas
		selector, _ = metav1.LabelSelectorAsSelector(o.Spec.Selector)
	case *appsv1.StatefulSet:
		scale.Spec.Replicas, scale.Status.Replicas = deref(o.Spec.Replicas), o.Status.Replicas
		selector, _ = metav1.LabelSelectorAsSelector(o.Spec.Selector)
	}
	scale.Status.Selector = selector.String()
	return scale
}

func setReplicas(obj resource.Object, n int32) {
	switch o := obj.(type) {
	case *corev1.ReplicationController:
		o.Spec.Replicas = &n
	case *appsv1.ReplicaSet:
		o.Spec.Replicas = &n
	case *appsv1.Deployment:
		o.Spec.Replicas = &n
	case *appsv1.StatefulSet:
		o.Spec.Replicas = &n
	}
}

func deref(n *int32) int32 {
	if n == nil {
		return 0
	}
	return *n
}
