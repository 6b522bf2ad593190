package apiserver

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

var noKind schema.GroupVersionKind

// get answers GET /…/NAME.
func (s *Server) get(w http.ResponseWriter, r *request) error {
	f, err := negotiate(r.Request)
	if err != nil {
		return err
	}
	obj, err := s.store.Get(r.Context(), r.kind.Key(r.namespace, r.name))
	if err != nil {
		return apiError(err, r.kind.GR(), r.name)
	}
	v, err := view(f, r.Request, r.kind, obj)
	if err != nil {
		return err
	}
	writeObject(w, r.Request, f, http.StatusOK, v)
	return nil
}

// list answers GET on a collection.
func (s *Server) list(w http.ResponseWriter, r *request) error {
	f, err := negotiateList(r.Request)
	if err != nil {
		return err
	}
	o, err := listOptionsOf(r.URL.Query(), false)
	if err != nil {
		return err
	}
	match, err := newMatcher(r.kind, o)
	if err != nil {
		return err
	}
	objects, lm, err := s.listObjects(r.Context(), r.kind, r.namespace, o, match)
	if err != nil {
		return apiError(err, r.kind.GR(), "")
	}
	if f.as == "" && f.info.MediaType == mediaProtobuf {
		writeBody(w, r.Request, f, http.StatusOK, func(to io.Writer) error { return encodeProtobufList(to, r.kind, objects, lm) })
		return nil
	}
	v, err := viewList(f, r.Request, r.kind, objects, lm)
	if err != nil {
		return err
	}
	writeObject(w, r.Request, f, http.StatusOK, v)
	return nil
}

// listObjects reads from the copy in memory whenever that can be right, and
// from etcd's history for the second and later pages of a list and for an
// exact resourceVersion: those must not see later writes.
func (s *Server) listObjects(ctx context.Context, kind *resource.Kind, namespace string, o listOptions, match matcher) ([]resource.Object, metav1.ListMeta, error) {
	under := kind.Under(namespace)
	switch {
	case o.cont != "":
		token, err := parseContinue(o.cont)
		if err != nil {
			return nil, metav1.ListMeta{}, err
		}
		return s.listPast(ctx, kind, under, token, o, match)
	case o.match == metav1.ResourceVersionMatchExact:
		return s.listPast(ctx, kind, under, continueToken{Revision: store.ParseRevision(o.version)}, o, match)
	}
	minimum := int64(-1) // everything that is written by now
	if o.version != "" {
		minimum = store.ParseRevision(o.version)
	}
	wait, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	all, revision, err := s.store.List(wait, kind.Prefix, under, minimum)
	if errors.Is(err, context.DeadlineExceeded) && minimum > 0 {
		return nil, metav1.ListMeta{}, tooLargeVersion(minimum, s.store.CachedRevision())
	}
	if err != nil {
		return nil, metav1.ListMeta{}, err
	}
	lm := metav1.ListMeta{ResourceVersion: strconv.FormatInt(revision, 10)}
	objects := make([]resource.Object, 0, len(all))
	for i, obj := range all {
		if !match.matches(obj) {
			continue
		}
		if o.limit > 0 && int64(len(objects)) == o.limit {
			lm.Continue = continueToken{Revision: revision, Start: kind.Key(obj.GetNamespace(), obj.GetName())}.String()
			if match.everything() {
				remaining := int64(len(all) - i)
				lm.RemainingItemCount = &remaining
			}
			break
		}
		objects = append(objects, obj)
	}
	return objects, lm, nil
}

// listPast pages through etcd at a past revision until limit objects match.
func (s *Server) listPast(ctx context.Context, kind *resource.Kind, under string, token continueToken, o listOptions, match matcher) ([]resource.Object, metav1.ListMeta, error) {
	lm := metav1.ListMeta{ResourceVersion: strconv.FormatInt(token.Revision, 10)}
	objects := []resource.Object{}
	start := token.Start
	for {
		page := int64(500)
		if o.limit > 0 {
			page = o.limit - int64(len(objects))
		}
		found, next, remaining, err := s.store.Page(ctx, kind.Prefix, under, start, page, token.Revision)
		var old *store.TooOldError
		if errors.As(err, &old) && o.cont != "" {
			return nil, lm, s.continueExpired(token)
		}
		if errors.As(err, &old) {
			return nil, lm, apierrors.NewResourceExpired("The resourceVersion for the provided list is too old.")
		}
		if future, ok := errors.AsType[*store.FutureError](err); ok {
			return nil, lm, tooLargeVersion(future.Asked, s.store.CachedRevision())
		}
		if err != nil {
			return nil, lm, err
		}
		for _, obj := range found {
			if match.matches(obj) {
				objects = append(objects, obj)
			}
		}
		start = next
		if next == "" {
			return objects, lm, nil
		}
		if o.limit > 0 && int64(len(objects)) >= o.limit {
			lm.Continue = continueToken{Revision: token.Revision, Start: next}.String()
			if match.everything() {
				lm.RemainingItemCount = &remaining
			}
			return objects, lm, nil
		}
	}
}

// continueExpired: the revision of the first page is compacted. The answer
// carries a token with which the client gets the rest as it is now.
func (s *Server) continueExpired(token continueToken) error {
	err := apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.")
	err.ErrStatus.ListMeta.Continue = continueToken{Revision: s.store.CachedRevision(), Start: token.Start}.String()
	return err
}

func tooLargeVersion(asked, have int64) error {
	err := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", asked, have), 1)
	err.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
	return err
}

// continueToken is where the next page of a list begins. Clients must not read
// it; it is base64 so that they do not try.
type continueToken struct {
	Version  string `json:"v"`
	Revision int64  `json:"rv"`
	Start    string `json:"start"`
}

func (t continueToken) String() string {
	t.Version = "podarium/v1"
	text, _ := json.Marshal(t)
	return base64.RawURLEncoding.EncodeToString(text)
}

func parseContinue(s string) (continueToken, error) {
	var t continueToken
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return t, badRequest("invalid continue token: continue key is not valid: %v", err)
	}
	if err := json.Unmarshal(text, &t); err != nil {
		return t, badRequest("invalid continue token: continue key is not valid: %v", err)
	}
	if t.Revision <= 0 || !strings.HasPrefix(t.Start, store.Root) {
		return t, badRequest("invalid continue token: continue key is not valid: incorrect encoded start resourceVersion")
	}
	return t, nil
}

// matcher is a label selector and a field selector together.
type matcher struct {
	kind   *resource.Kind
	labels labels.Selector
	fields fields.Selector
}

// newMatcher refuses fields that the kind does not offer.
func newMatcher(kind *resource.Kind, o listOptions) (matcher, error) {
	known := kind.SelectableFields(kind.Stored().New())
	for _, req := range o.fields.Requirements() {
		if _, ok := known[req.Field]; !ok {
			return matcher{}, unknownField(kind, req.Field)
		}
	}
	return matcher{kind: kind, labels: o.labels, fields: o.fields}, nil
}

// unknownField: upstream's groups have different words for it.
func unknownField(kind *resource.Kind, field string) error {
	switch {
	case kind.Fields == nil:
		return badRequest(`%q is not a known field selector: only "metadata.name", "metadata.namespace"`, field)
	case kind.GroupVersion.Group == "batch":
		return badRequest("field label %q not supported for %s", field, kind.Kind)
	default:
		return badRequest("field label not supported: %s", field)
	}
}

func (m matcher) everything() bool { return m.labels.Empty() && m.fields.Empty() }

func (m matcher) matches(obj resource.Object) bool {
	if !m.labels.Empty() && !m.labels.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	return m.fields.Empty() || m.fields.Matches(m.kind.SelectableFields(obj))
}
