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
	into := kind.New()
	decoded, warnings, err := decodeBody(r.Header.Get("Content-Type"), body, kind.GVK(), into, validation)
	if err != nil {
		return nil, nil, err
	}
	obj, ok := decoded.(resource.Object)
	if gvk := decoded.GetObjectKind().GroupVersionKind(); !ok || gvk != kind.GVK() {
		goName := fmt.Sprintf("%T", decoded)
		goName = strings.TrimPrefix(goName, "*")
		return nil, nil, badRequest("%s in version %q cannot be handled as a %s: converting (%s) to (%s.%s): unknown conversion",
			gvk.Kind, gvk.Version, kind.Kind, goName, internalPackage(kind.GroupVersion.Group), kind.Kind)
	}
	return obj, warnings, nil
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
	serializer := info.Serializer
	if validation != metav1.FieldValidationIgnore && info.StrictSerializer != nil {
		serializer = info.StrictSerializer
	}
	obj, actual, err := serializer.Decode(body, &gvk, into)
	strict, isStrict := runtime.AsStrictDecodingError(err)
	switch {
	case isStrict && validation == metav1.FieldValidationStrict:
		return nil, nil, cannotHandle(actual, gvk, err)
	case isStrict:
		var warnings []string
		for _, e := range strict.Errors() {
			warnings = append(warnings, e.Error())
		}
		return obj, warnings, nil
	case err != nil:
		return nil, nil, decodeError(err, actual, gvk, body)
	}
	if obj.GetObjectKind().GroupVersionKind().Empty() {
		obj.GetObjectKind().SetGroupVersionKind(*actual)
	}
	return obj, nil, nil
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
		obj.SetName(t.name)
	case t.name:
	default:
		return badRequest("the name of the object (%s) does not match the name on the URL (%s)", obj.GetName(), t.name)
	}
	return nil
}
