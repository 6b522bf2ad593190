package apiserver

import (
	"encoding/base64"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/podarium/podarium/apiserver/auth"
)

// identify puts the user into the request's context.
func (s *Server) identify(r *request) error {
	user, err := s.authenticate(r.Request)
	if err != nil {
		return unauthorized()
	}
	r.caller = user
	if user, err = s.impersonate(r, user); err != nil {
		return err
	}
	r.Request = r.WithContext(auth.WithUser(r.Context(), user))
	return nil
}

// public are the paths that need no credentials: load balancers and people ask
// there whether the server lives.
func public(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "healthz", "livez", "readyz":
		return true
	}
	return path == "/version" || path == "/version/"
}

// authorize decides whether the user may do this.
func (s *Server) authorize(r *request) error {
	if !r.isResource && public(r.path) {
		return nil
	}
	user := auth.UserOf(r.Context())
	if user.Name == auth.Anonymous {
		return unauthorized()
	}
	a := attributesOf(r, user)
	ok, reason := s.authorizer.Allowed(&a)
	r.decision, r.reason = "allow", reason
	if !ok {
		r.decision = "forbid"
		return forbidden(&a, reason)
	}
	return nil
}

func attributesOf(r *request, user *auth.User) auth.Attributes {
	if !r.isResource {
		return auth.Attributes{User: user, Verb: r.verb, Path: r.path}
	}
	a := auth.Attributes{User: user, Verb: r.verb, Group: r.group, Resource: r.resource, Namespace: r.namespace, Name: r.name}
	if r.subresource != "" {
		a.Resource += "/" + r.subresource
	}
	if text := r.URL.Query().Get("fieldSelector"); text != "" {
		a.FieldSelector = equalFields(text)
	}
	return a
}

// equalFields are the fields that a selector asks to have one value.
func equalFields(text string) map[string]string {
	selector, err := fields.ParseSelector(text)
	if err != nil {
		return nil
	}
	equal := map[string]string{}
	for _, req := range selector.Requirements() {
		if req.Operator == selection.Equals || req.Operator == selection.DoubleEquals {
			equal[req.Field] = req.Value
		}
	}
	return equal
}

// forbidden is the 403: who cannot do what, and why when there is a reason
// beyond "no role says so".
func forbidden(a *auth.Attributes, reason string) error {
	err := a.Denied()
	if reason != "" {
		err = fmt.Errorf("%w: %s", err, reason)
	}
	resource, _, _ := strings.Cut(a.Resource, "/")
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: resource}, a.Name, err)
}

func decodeBase64URL(s string) (string, bool) {
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
	return string(text), err == nil
}
