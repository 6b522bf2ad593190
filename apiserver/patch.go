package apiserver

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/podarium/podarium/apiserver/resource"
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
	var before resource.Object
	o.fieldManager = managerOf(r.Request)
	done, err := s.modify(r.Context(), r.kind.Stored(), r.namespace, r.name, r.subresource, o, func(current resource.Object) (resource.Object, error) {
		if before = current; current == nil {
			return nil, apierrors.NewNotFound(r.kind.GR(), r.name)
		}
		next, told, err := patched(r.kind, shown(r.kind, current), patchType, body, o.validation)
		if err != nil {
			return nil, err
		}
		warnings = told // again when somebody else wrote in between
		if err := checkPath(next, r.target, r.kind); err != nil {
			return nil, err
		}
		return stored(r.kind, next), nil
	})
	addWarnings(w, warnings) // also when the patch is refused
	if err != nil {
		return err
	}
	return s.respondWritten(w, r, http.StatusOK, done, before)
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
		return errUnsupportedPatch
	}
	return nil
}

var errUnsupportedPatch = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusUnsupportedMediaType, Reason: metav1.StatusReasonUnsupportedMediaType,
	Message: "415: Unsupported Media Type", Details: &metav1.StatusDetails{},
}}

// errPatchFailed: a JSON patch whose operations cannot be done on this object.
var errPatchFailed = &apierrors.StatusError{ErrStatus: metav1.Status{
	Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
	Message: "the server rejected our request due to an error in our request", Details: &metav1.StatusDetails{},
}}

// patched applies a patch of one of three types: a list of operations (RFC
// 6902), an object to be merged (RFC 7386), or one whose lists are merged by
// key, which only the Go type knows (strategic: containers by name, ports by
// port).
func patched(kind *resource.Kind, current resource.Object, patchType types.PatchType, body []byte, validation string) (resource.Object, []string, error) {
	before, err := json.Marshal(current)
	if err != nil {
		return nil, nil, err
	}
	twice, err := duplicates(patchType, body, validation)
	if err != nil {
		return nil, nil, err
	}
	var after []byte
	switch patchType {
	case types.StrategicMergePatchType:
		return mergedStrategically(kind, before, body, twice, validation)
	case types.JSONPatchType:
		ops, err := jsonpatch.DecodePatch(body)
		if err != nil {
			return nil, nil, badRequest("error decoding patch: %v", err)
		}
		if after, err = ops.Apply(before); err != nil {
			return nil, nil, errPatchFailed
		}
	default:
		if after, err = jsonpatch.MergePatch(before, body); err != nil {
			return nil, nil, badRequest("%v", err)
		}
	}
	next, warnings, err := decodePatched(kind, after, twice, validation)
	if err != nil {
		return nil, nil, invalidPatch(string(after), err)
	}
	return next, warnings, nil
}

// decodePatched reads what a patch made. twice are the fields that the patch
// itself had twice.
func decodePatched(kind *resource.Kind, after []byte, twice []error, validation string) (resource.Object, []string, error) {
	next, _, unknown, err := decodeKind(serializerFor(mediaJSON), after, kind, validation)
	if err != nil {
		return nil, nil, err
	}
	warnings, err := judged(append(twice, unknown...), validation)
	return next, warnings, err
}

// duplicates are the fields that a patch has twice: merging sees the last only.
func duplicates(patchType types.PatchType, body []byte, validation string) ([]error, error) {
	if validation == metav1.FieldValidationIgnore {
		return nil, nil
	}
	if patchType == types.JSONPatchType {
		var operations []struct {
			Op    string `json:"op"`
			Path  string `json:"path"`
			From  string `json:"from"`
			Value any    `json:"value"`
		}
		twice, err := kjson.UnmarshalStrict(body, &operations)
		for i, e := range twice {
			twice[i] = fmt.Errorf("json patch %w", e)
		}
		return twice, decodingPatch(err)
	}
	var object map[string]any
	twice, err := kjson.UnmarshalStrict(body, &object)
	return twice, decodingPatch(err)
}

func decodingPatch(err error) error {
	if err == nil {
		return nil
	}
	return badRequest("error decoding patch: %v", err)
}

// mergedStrategically works on the decoded forms, which know the merge keys.
func mergedStrategically(kind *resource.Kind, before, body []byte, twice []error, validation string) (resource.Object, []string, error) {
	var current, patch map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(before, &current); err != nil {
		return nil, nil, err
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &patch); err != nil {
		return nil, nil, badRequest("%v", err)
	}
	shown := fmt.Sprintf("%+v", patch) // merging takes the patch apart
	after, err := strategicpatch.StrategicMergeMapPatch(current, patch, kind.New())
	if err != nil {
		return nil, nil, err
	}
	next := kind.New()
	strict := validation != metav1.FieldValidationIgnore
	err = runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(after, next, strict)
	if unknown, ok := runtime.AsStrictDecodingError(err); ok {
		twice, err = append(twice, unknown.Errors()...), nil
	}
	if err != nil {
		return nil, nil, invalidPatch(shown, err)
	}
	warnings, err := judged(twice, validation)
	if err != nil {
		return nil, nil, invalidPatch(shown, err)
	}
	return next, warnings, nil
}

func invalidPatch(patch string, err error) error {
	return apierrors.NewInvalid(schema.GroupKind{}, "", field.ErrorList{field.Invalid(field.NewPath("patch"), patch, err.Error())})
}
