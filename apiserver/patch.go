package apiserver

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"

	"github.com/podarium/podarium/apiserver/resource"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// patch answers PATCH on an object or on its status.
func (s *Server) patch(w http.ResponseWriter, r *request) error {
	o, err := writeOptionsOf(r.Request, "PatchOptions")
	if err != nil {
		return err
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	patchType := types.PatchType(mediaType)
	body, err := readBody(r.Request)
	if err != nil {
		return err
	}
	if patchType == types.ApplyPatchType {
		return s.apply(w, r, o, body)
	}
	if o.force {
		return invalidOptions("PatchOptions", field.Forbidden(field.NewPath("force"), "may not be specified for non-apply patch"))
	}
	if err := checkPatch(patchType, body); err != nil {
		return err
	}
	var warnings []string
	done, err := s.modify(r.Context(), r.kind.Stored(), r.namespace, r.name, r.subresource, o, func(current resource.Object) (resource.Object, error) {
		if current == nil {
			return nil, apierrors.NewNotFound(r.kind.GR(), r.name)
		}
		next, told, err := patched(r.kind, shown(r.kind, current), patchType, body, o.validation)
		if err != nil {
			return nil, err
		}
		warnings = told
		if err := checkPath(next, r.target, r.kind); err != nil {
			return nil, err
		}
		return stored(r.kind, next), nil
	})
	if err != nil {
		return err
	}
	return s.respondObject(w, r, http.StatusOK, done, warnings)
}

// checkPatch refuses, before anything is read, what is no patch of its type.
func checkPatch(patchType types.PatchType, body []byte) error {
	switch patchType {
	case types.JSONPatchType:
		if _, err := jsonpatch.DecodePatch(body); err != nil {
			return badRequest("error decoding patch: %v", err)
		}
	case types.MergePatchType:
		if !json.Valid(body) {
			var v any
			return badRequest("error decoding patch: %v", json.Unmarshal(body, &v))
		}
	case types.StrategicMergePatchType:
		var v map[string]any
		if err := json.Unmarshal(body, &v); err != nil {
			return badRequest("%v", err)
		}
	default:
		return plainStatus(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
			"the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml")
	}
	return nil
}

// patched applies a patch of one of three types: a list of operations (RFC
// 6902), an object to be merged (RFC 7386), or one whose lists are merged by
// key, which only the Go type knows (strategic: containers by name, ports by
// port).
func patched(kind *resource.Kind, current resource.Object, patchType types.PatchType, body []byte, validation string) (resource.Object, []string, error) {
	before, err := json.Marshal(current)
	if err != nil {
		return nil, nil, err
	}
	var after []byte
	switch patchType {
	case types.JSONPatchType:
		ops, err := jsonpatch.DecodePatch(body)
		if err != nil {
			return nil, nil, badRequest("error decoding patch: %v", err)
		}
		if after, err = ops.Apply(before); err != nil {
			return nil, nil, apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "", kind.GR(), current.GetName(), err.Error(), 0, false)
		}
	case types.MergePatchType:
		if after, err = jsonpatch.MergePatch(before, body); err != nil {
			return nil, nil, badRequest("%v", err)
		}
	default:
		after, err = strategicpatch.StrategicMergePatch(before, body, kind.New())
		if err != nil {
			return nil, nil, strategicError(err)
		}
	}
	obj, warnings, err := decodeBody(mediaJSON, after, kind.GVK(), kind.New(), validation)
	if err != nil {
		return nil, nil, apierrors.NewInvalid(kind.GK(), current.GetName(), field.ErrorList{field.Invalid(field.NewPath("patch"), string(body), err.Error())})
	}
	next, ok := obj.(resource.Object)
	if !ok {
		return nil, nil, badRequest("patch makes a %T of a %s", obj, kind.Kind)
	}
	return next, warnings, nil
}

func strategicError(err error) error {
	return apierrors.NewInternalError(fmt.Errorf("%w", err))
}
