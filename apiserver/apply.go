package apiserver

import (
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/podarium/podarium/apiserver/resource"
)

// Server-side apply: a client sends only the fields it has an opinion on,
// under the name of a manager. The server remembers in metadata.managedFields
// which manager owns which field. Who applies a field that belongs to somebody
// else gets a conflict; who leaves out a field it owned gives it up, and the
// field goes.
//

// apply answers PATCH with Content-Type application/apply-patch+yaml.
func (s *Server) apply(w http.ResponseWriter, r *request, o writeOptions, body []byte) error {
	if o.fieldManager == "" {
		return invalidOptions("PatchOptions", field.Required(field.NewPath("fieldManager"), "is required for apply patch"))
	}
	wanted, err := decodeApplied(body)
	if err != nil {
		return err
	}
	twice := yaml.UnmarshalStrict(body, &map[string]any{}) // a field's second value hides the first
	if twice != nil && o.validation == metav1.FieldValidationWarn {
		addWarnings(w, complaints(twice))
	}
	manager, err := s.managers.of(r.kind, r.subresource)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if manager == nil {
		return errUnsupportedPatch
	}
	merge := func(live resource.Object) (resource.Object, error) {
		merged, err := manager.Apply(live, wanted.DeepCopy(), o.fieldManager, o.force)
		if err != nil {
			return nil, err
		}
		next, err := asKind(r.kind, merged)
		if err != nil {
			return nil, err
		}
		if twice != nil && o.validation == metav1.FieldValidationStrict {
			return nil, badRequest("error strict decoding YAML: %v", twice)
		}
		return next, checkPath(next, r.target, r.kind)
	}
	code := http.StatusOK
	o.applied = true
	var before resource.Object
	done, err := s.modify(r.Context(), r.kind.Stored(), r.namespace, r.name, r.subresource, o, func(current resource.Object) (resource.Object, error) {
		if before = current; current == nil {
			return nil, apierrors.NewNotFound(r.kind.GR(), r.name)
		}
		next, err := merge(shown(r.kind, current).DeepCopyObject().(resource.Object))
		if err != nil {
			return nil, err
		}
		return stored(r.kind, next), nil
	})
	if apierrors.IsNotFound(err) && r.subresource == "" {
		code = http.StatusCreated
		done, err = s.applyNew(r, merge, o)
	}
	if err != nil {
		return err
	}
	return s.respondWritten(w, r, code, done, before)
}

func decodeApplied(body []byte) (*unstructured.Unstructured, error) {
	wanted := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(body, &wanted.Object); err != nil {
		return nil, badRequest("error decoding YAML: %v", err)
	}
	return wanted, nil
}

// applyNew: what is applied and does not exist is created.
func (s *Server) applyNew(r *request, merge func(resource.Object) (resource.Object, error), o writeOptions) (resource.Object, error) {
	empty := emptyObject(r.kind)
	next, err := merge(empty)
	if err != nil {
		return nil, err
	}
	if uid := next.GetUID(); uid != "" {
		return nil, apierrors.NewConflict(r.kind.GR(), r.name, fmt.Errorf("uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
	}
	next.SetResourceVersion("")
	return s.createObject(r.Context(), r.kind, next, o)
}

// asKind makes an object of its kind out of what merging made.
func asKind(kind *resource.Kind, obj runtime.Object) (resource.Object, error) {
	if raw, ok := obj.(*unstructured.Unstructured); ok {
		into := kind.New()
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw.Object, into); err != nil {
			return nil, badRequest("%v", err)
		}
		obj = into
	}
	next, ok := obj.(resource.Object)
	if !ok {
		return nil, fmt.Errorf("apply made a %T of a %s", obj, kind.Kind)
	}
	next.GetObjectKind().SetGroupVersionKind(kind.GVK())
	wholeSeconds(next)
	return next, nil
}
