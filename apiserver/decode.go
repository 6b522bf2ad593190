package apiserver

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/resource"
)

// maxBody is the largest request body, in bytes, as upstream.
const maxBody = 3 << 20

// readBody reads the whole body, bounded.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0)
	}
	if err != nil {
		return nil, badRequest("read request body: %v", err)
	}
	if len(body) > maxBody {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", maxBody))
	}
	return body, nil
}

// decodeObject reads the object in the body of a create or an update. What the
// body does not say of its kind is taken from the path. warnings tells unknown
// fields when the client wants to be told (fieldValidation=Warn).
func decodeObject(r *http.Request, kind *resource.Kind, validation string) (obj resource.Object, warnings []string, err error) {
	body, err := readBody(r)
	if err != nil {
		return nil, nil, err
	}
	info, err := bodySerializer(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, nil, err
	}
	obj, actual, unknown, err := decodeKind(info, body, kind, validation)
	if err == nil {
		warnings, err = judged(unknown, validation)
	}
	if err != nil {
		return nil, nil, decodeError(err, actual, kind.GVK(), body)
	}
	return obj, warnings, nil
}

// decodeKind is decodeWith for an object of a kind. A body of another kind is an
// error, whatever fields it has.
func decodeKind(info runtime.SerializerInfo, body []byte, kind *resource.Kind, validation string) (obj resource.Object, actual *schema.GroupVersionKind, unknown []error, err error) {
	decoded, actual, unknown, err := decodeWith(info, body, kind.GVK(), kind.New(), validation)
	if err != nil {
		return nil, actual, nil, err
	}
	obj, ok := decoded.(resource.Object)
	if !ok || *actual != kind.GVK() {
		return nil, actual, nil, fmt.Errorf("converting (%s) to (%s.%s): unknown conversion",
			strings.TrimPrefix(fmt.Sprintf("%T", decoded), "*"), internalPackage(kind.GroupVersion.Group), kind.Kind)
	}
	return obj, actual, unknown, nil
}

// internalPackage is the name that upstream's messages have for a group.
func internalPackage(group string) string {
	if group == "" {
		return "core"
	}
	name, _, _ := strings.Cut(group, ".")
	return name
}

// decodeBody decodes JSON, YAML or protobuf. fieldValidation decides about
// fields that the type does not have, or that appear twice: Strict refuses,
// Warn tells, Ignore is silent.
func decodeBody(contentType string, body []byte, gvk schema.GroupVersionKind, into runtime.Object, validation string) (runtime.Object, []string, error) {
	info, err := bodySerializer(contentType)
	if err != nil {
		return nil, nil, err
	}
	obj, actual, unknown, err := decodeWith(info, body, gvk, into, validation)
	var warnings []string
	if err == nil {
		warnings, err = judged(unknown, validation)
	}
	if err != nil {
		return nil, nil, decodeError(err, actual, gvk, body)
	}
	return obj, warnings, nil
}

// decodeWith decodes with one serializer. unknown are the fields that the type
// does not have or that appear twice, unless nobody wants to know. The error is
// the serializer's own, and actual what the body says that it is.
func decodeWith(info runtime.SerializerInfo, body []byte, gvk schema.GroupVersionKind, into runtime.Object, validation string) (obj runtime.Object, actual *schema.GroupVersionKind, unknown []error, err error) {
	serializer := info.Serializer
	if validation != metav1.FieldValidationIgnore && info.StrictSerializer != nil {
		serializer = info.StrictSerializer
	}
	obj, actual, err = serializer.Decode(body, &gvk, into)
	if strict, ok := runtime.AsStrictDecodingError(err); ok {
		unknown, err = strict.Errors(), nil
	}
	if err != nil {
		return nil, actual, nil, err
	}
	obj.GetObjectKind().SetGroupVersionKind(*actual) // what the body leaves out, the path says
	return obj, actual, unknown, nil
}

// judged makes, of unknown fields, an error or warnings.
func judged(unknown []error, validation string) ([]string, error) {
	if len(unknown) == 0 {
		return nil, nil
	}
	if validation == metav1.FieldValidationStrict {
		return nil, runtime.NewStrictDecodingError(unknown)
	}
	var warnings []string
	for _, e := range unknown {
		warnings = append(warnings, complaints(e)...)
	}
	return warnings, nil
}

// complaints are the lines of an error. The YAML parser tells all in one:
//
//	error converting YAML to JSON: yaml: unmarshal errors:
//	  line 3: key "port" already set in map
//	  line 4: key "port" already set in map
func complaints(err error) []string {
	_, lines, many := strings.Cut(err.Error(), "yaml: unmarshal errors:\n")
	if !many {
		return []string{err.Error()}
	}
	var list []string
	for line := range strings.SplitSeq(lines, "\n") {
		list = append(list, strings.TrimSpace(line))
	}
	return list
}

func bodySerializer(contentType string) (runtime.SerializerInfo, error) {
	mediaType := mediaJSON
	if contentType != "" {
		var err error
		if mediaType, _, err = mime.ParseMediaType(contentType); err != nil {
			mediaType = contentType
		}
	}
	info := serializerFor(mediaType)
	if info.Serializer == nil {
		return info, plainStatus(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf")
	}
	return info, nil
}

func cannotHandle(actual *schema.GroupVersionKind, want schema.GroupVersionKind, err error) error {
	if actual == nil {
		actual = &want
	}
	return badRequest("%s in version %q cannot be handled as a %s: %v", actual.Kind, actual.GroupVersion().Version, want.Kind, err)
}

func decodeError(err error, actual *schema.GroupVersionKind, want schema.GroupVersionKind, body []byte) error {
	if actual != nil && actual.Kind != "" {
		return cannotHandle(actual, want, err)
	}
	return badRequest("the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(body))
}

// summary is the beginning of a body, for an error: as it is when it looks
// like a JSON object, else in hexadecimal.
func summary(body []byte) string {
	const most = 30
	switch {
	case len(body) == 0:
		return "<empty>"
	case body[0] == '{' && len(body) > most:
		return string(body[:most]) + " ..."
	case body[0] == '{':
		return string(body)
	case len(body) > most:
		return fmt.Sprintf("%x ...", body[:most])
	}
	return fmt.Sprintf("%x", body)
}

// checkPath makes the object and the path agree on name and namespace.
func checkPath(obj resource.Object, t target, kind *resource.Kind) error {
	if kind.Namespaced {
		switch obj.GetNamespace() {
		case "":
			obj.SetNamespace(t.namespace)
		case t.namespace:
		default:
			return badRequest("the namespace of the provided object does not match the namespace sent on the request")
		}
	} else {
		obj.SetNamespace("")
	}
	if t.name == "" {
		return nil
	}
	switch obj.GetName() {
	case "":
		return badRequest("the name of the object (%s based on URL) was undeterminable: name must be provided", t.name)
	case t.name:
	default:
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), t.name)
	}
	return nil
}
