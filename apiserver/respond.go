package apiserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// format is how a client wants its answer: which encoding, and whether as the
// objects themselves, their metadata alone, or a table for people.
type format struct {
	info runtime.SerializerInfo
	as   string // "", "Table", "PartialObjectMetadata", "PartialObjectMetadataList"
}

var defaultFormat = format{info: serializerFor(mediaJSON)}

func serializerFor(mediaType string) runtime.SerializerInfo {
	info, _ := runtime.SerializerInfoForMediaType(codecs.SupportedMediaTypes(), mediaType)
	return info
}

// negotiate reads the Accept header, best match first as the client ordered it:
//
//	application/json;as=Table;v=v1;g=meta.k8s.io,application/json
func negotiate(r *http.Request) (format, error) {
	return negotiateForm(r, func(as string) bool {
		return as == "Table" || as == "PartialObjectMetadata" || as == "PartialObjectMetadataList"
	})
}

// negotiateList is negotiate for a list.
func negotiateList(r *http.Request) (format, error) {
	f, err := negotiate(r)
	if errors.Is(err, errNotAcceptable) {
		err = errListNotAcceptable
	}
	return f, err
}

// negotiateForm is negotiate for answers which have only some of the forms.
func negotiateForm(r *http.Request, has func(as string) bool) (format, error) {
	accept := r.Header.Get("Accept")
	if accept == "" {
		return defaultFormat, nil
	}
	transformed := false
	for clause := range strings.SplitSeq(accept, ",") {
		mediaType, params, err := mime.ParseMediaType(strings.TrimSpace(clause))
		if err != nil {
			continue
		}
		switch mediaType {
		case "*/*", "application/*":
			mediaType = mediaJSON
		}
		f := format{info: serializerFor(mediaType), as: params["as"]}
		if f.info.Serializer == nil {
			continue
		}
		if f.as == "" {
			return f, nil
		}
		transformed = true
		if params["g"] == metav1.GroupName && (params["v"] == "v1" || params["v"] == "v1beta1") && has(f.as) {
			return f, nil
		}
	}
	if transformed {
		return defaultFormat, notAcceptable("only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf")
	}
	return defaultFormat, errNotAcceptable
}

// No form that the client takes: of an object, and of a list, which can be watched.
var (
	errNotAcceptable     = noForm("application/json, application/yaml, application/vnd.kubernetes.protobuf")
	errListNotAcceptable = noForm("application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch")
)

func noForm(available string) error {
	err := notAcceptable("406: Not Acceptable\n\nAvailable representations: " + available)
	err.ErrStatus.Details = &metav1.StatusDetails{}
	return err
}

func notAcceptable(message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusNotAcceptable, Reason: metav1.StatusReasonNotAcceptable, Message: message,
	}}
}

// respond writes obj in the format the client asked for. It is for what is not stored: a review is no row of a
// table and has no metadata.
func (s *Server) respond(w http.ResponseWriter, r *http.Request, code int, obj runtime.Object) {
	f, err := negotiateForm(r, func(string) bool { return false })
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeObject(w, r, f, code, obj)
}

func writeObject(w http.ResponseWriter, r *http.Request, f format, code int, obj runtime.Object) {
	writeBody(w, r, f, code, func(to io.Writer) error { return encode(f.info.Serializer, obj, to) })
}

// writeBody answers with what write writes, compressed when it is long.
func writeBody(w http.ResponseWriter, r *http.Request, f format, code int, write func(io.Writer) error) {
	w.Header().Set("Content-Type", f.info.MediaType)
	w.Header().Set("Cache-Control", "no-cache, private")
	a := newAnswer(w, r, code)
	defer a.free()
	if err := write(a); err != nil {
		slog.Error("answer cannot be encoded", "path", r.URL.Path, "err", err)
		if !a.begun() {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
		return
	}
	a.end()
}

// encode writes obj to w. Protobuf is made in memory, which is used again.
func encode(to runtime.Serializer, obj runtime.Object, w io.Writer) error {
	frugal, ok := to.(runtime.EncoderWithAllocator)
	if !ok {
		return to.Encode(obj, w)
	}
	memory := runtime.AllocatorPool.Get().(*runtime.Allocator)
	defer runtime.AllocatorPool.Put(memory)
	return frugal.EncodeWithAllocator(obj, w, memory)
}

// writeJSON is for documents that are no API objects: discovery, keys.
func writeJSON(w http.ResponseWriter, code int, contentType string, v any) {
	body, err := json.Marshal(v)
	writeText(w, code, contentType, body, err)
}

// writeIndented is for what people read: /version and the list of paths.
func writeIndented(w http.ResponseWriter, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	writeText(w, http.StatusOK, mediaJSON, body, err)
}

func writeText(w http.ResponseWriter, code int, contentType string, body []byte, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-cache, private")
	w.WriteHeader(code)
	w.Write(body)
}

// fail answers with the error's Status.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	f, ferr := negotiate(r)
	if ferr != nil || f.as != "" {
		f.as = ""
	}
	status := statusOf(err)
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	writeObject(w, r, f, int(status.Code), &status)
}

// statusOf makes the Status object for any error; one that is no API error is
// the server's own trouble.
func statusOf(err error) metav1.Status {
	var known apierrors.APIStatus
	status := metav1.Status{}
	if errors.As(err, &known) {
		status = known.Status()
	} else {
		status = metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	}
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
	}
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return status
}

func plain(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	fmt.Fprintln(w, text)
}
