package apiserver

import (
	"iter"
	"net/http"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/auth"
)

// A review is a question put as an object: its spec asks, its status is the
// answer, and nothing is stored. Kubelets ask this way who calls them and
// whether they may; `kubectl auth can-i` and `kubectl auth whoami` do too.

var (
	authn = authenticationv1.SchemeGroupVersion
	authz = authorizationv1.SchemeGroupVersion
)

// reviewKinds are the reviews there are, by resource.
var reviewKinds = map[schema.GroupVersionResource]string{
	authn.WithResource("tokenreviews"):              "TokenReview",
	authn.WithResource("selfsubjectreviews"):        "SelfSubjectReview",
	authz.WithResource("subjectaccessreviews"):      "SubjectAccessReview",
	authz.WithResource("localsubjectaccessreviews"): "LocalSubjectAccessReview",
	authz.WithResource("selfsubjectaccessreviews"):  "SelfSubjectAccessReview",
	authz.WithResource("selfsubjectrulesreviews"):   "SelfSubjectRulesReview",
}

// sortedReviews walks through the reviews in a fixed order.
func sortedReviews() iter.Seq2[schema.GroupVersionResource, string] {
	var keys []schema.GroupVersionResource
	for gvr := range reviewKinds {
		keys = append(keys, gvr)
	}
	slices.SortFunc(keys, func(a, b schema.GroupVersionResource) int {
		return strings.Compare(a.Group+a.Resource, b.Group+b.Resource)
	})
	return func(yield func(schema.GroupVersionResource, string) bool) {
		for _, gvr := range keys {
			if !yield(gvr, reviewKinds[gvr]) {
				return
			}
		}
	}
}

// review answers POST on a review.
func (s *Server) review(w http.ResponseWriter, r *request, kind string) error {
	if r.verb != "create" || r.name != "" {
		return errMethod
	}
	switch kind {
	case "TokenReview":
		return s.tokenReview(w, r)
	case "SelfSubjectReview":
		return s.whoAmI(w, r)
	case "SubjectAccessReview":
		return s.subjectAccessReview(w, r)
	case "LocalSubjectAccessReview":
		return s.localAccessReview(w, r)
	case "SelfSubjectAccessReview":
		return s.selfAccessReview(w, r)
	}
	return s.rulesReview(w, r)
}

func (s *Server) tokenReview(w http.ResponseWriter, r *request) error {
	rev, err := decodePart(r, authn.WithKind("TokenReview"), &authenticationv1.TokenReview{})
	if err != nil {
		return err
	}
	user, audiences, err := s.tokens.Check(rev.Spec.Token, rev.Spec.Audiences)
	rev.Status = authenticationv1.TokenReviewStatus{}
	if err != nil {
		rev.Status.Error = err.Error()
	} else {
		rev.Status.Authenticated = true
		rev.Status.User = userInfo(user)
		rev.Status.Audiences = audiences
	}
	rev.SetGroupVersionKind(authn.WithKind("TokenReview"))
	s.respond(w, r.Request, http.StatusCreated, rev)
	return nil
}

func userInfo(u *auth.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}

func (s *Server) whoAmI(w http.ResponseWriter, r *request) error {
	rev := &authenticationv1.SelfSubjectReview{}
	rev.SetGroupVersionKind(authn.WithKind("SelfSubjectReview"))
	rev.Status.UserInfo = userInfo(auth.UserOf(r.Context()))
	s.respond(w, r.Request, http.StatusCreated, rev)
	return nil
}

func (s *Server) subjectAccessReview(w http.ResponseWriter, r *request) error {
	gvk := authz.WithKind("SubjectAccessReview")
	rev, err := decodePart(r, gvk, &authorizationv1.SubjectAccessReview{})
	if err != nil {
		return err
	}
	rev.Status = s.decide(subjectOf(rev.Spec), rev.Spec.ResourceAttributes, rev.Spec.NonResourceAttributes)
	rev.SetGroupVersionKind(gvk)
	s.respond(w, r.Request, http.StatusCreated, rev)
	return nil
}

func (s *Server) localAccessReview(w http.ResponseWriter, r *request) error {
	gvk := authz.WithKind("LocalSubjectAccessReview")
	rev, err := decodePart(r, gvk, &authorizationv1.LocalSubjectAccessReview{})
	if err != nil {
		return err
	}
	if rev.Spec.ResourceAttributes == nil || rev.Spec.ResourceAttributes.Namespace != r.namespace {
		return badRequest("spec.resourceAttributes.namespace must match the namespace of the request: %s", r.namespace)
	}
	rev.Status = s.decide(subjectOf(rev.Spec), rev.Spec.ResourceAttributes, nil)
	rev.SetGroupVersionKind(gvk)
	s.respond(w, r.Request, http.StatusCreated, rev)
	return nil
}

func (s *Server) selfAccessReview(w http.ResponseWriter, r *request) error {
	gvk := authz.WithKind("SelfSubjectAccessReview")
	rev, err := decodePart(r, gvk, &authorizationv1.SelfSubjectAccessReview{})
	if err != nil {
		return err
	}
	rev.Status = s.decide(auth.UserOf(r.Context()), rev.Spec.ResourceAttributes, rev.Spec.NonResourceAttributes)
	rev.SetGroupVersionKind(gvk)
	s.respond(w, r.Request, http.StatusCreated, rev)
	return nil
}

func subjectOf(spec authorizationv1.SubjectAccessReviewSpec) *auth.User {
	u := &auth.User{Name: spec.User, Groups: spec.Groups, UID: spec.UID, Extra: map[string][]string{}}
	for key, values := range spec.Extra {
		u.Extra[key] = values
	}
	return u
}

func (s *Server) decide(user *auth.User, res *authorizationv1.ResourceAttributes, path *authorizationv1.NonResourceAttributes) authorizationv1.SubjectAccessReviewStatus {
	a := auth.Attributes{User: user}
	switch {
	case res != nil:
		a.Verb, a.Group, a.Resource, a.Namespace, a.Name = res.Verb, res.Group, res.Resource, res.Namespace, res.Name
		if res.Subresource != "" {
			a.Resource += "/" + res.Subresource
		}
		if res.FieldSelector != nil {
			a.FieldSelector = equalFields(res.FieldSelector.RawSelector)
		}
	case path != nil:
		a.Verb, a.Path = path.Verb, path.Path
	}
	ok, reason := s.authorizer.Allowed(&a)
	return authorizationv1.SubjectAccessReviewStatus{Allowed: ok, Reason: reason}
}

func (s *Server) rulesReview(w http.ResponseWriter, r *request) error {
	gvk := authz.WithKind("SelfSubjectRulesReview")
	rev, err := decodePart(r, gvk, &authorizationv1.SelfSubjectRulesReview{})
	if err != nil {
		return err
	}
	if rev.Spec.Namespace == "" {
		return badRequest("no namespace on request")
	}
	rev.Status = authorizationv1.SubjectRulesReviewStatus{ResourceRules: []authorizationv1.ResourceRule{}, NonResourceRules: []authorizationv1.NonResourceRule{}}
	rules := s.authorizer.RulesFor(auth.UserOf(r.Context()), rev.Spec.Namespace)
	if auth.UserOf(r.Context()).In(auth.GroupMasters) {
		rules = append(rules, rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}},
			rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}})
	}
	for _, rule := range rules {
		if len(rule.Resources) > 0 {
			rev.Status.ResourceRules = append(rev.Status.ResourceRules, authorizationv1.ResourceRule{
				Verbs: rule.Verbs, APIGroups: rule.APIGroups, Resources: rule.Resources, ResourceNames: rule.ResourceNames,
			})
		}
		if len(rule.NonResourceURLs) > 0 {
			rev.Status.NonResourceRules = append(rev.Status.NonResourceRules, authorizationv1.NonResourceRule{Verbs: rule.Verbs, NonResourceURLs: rule.NonResourceURLs})
		}
	}
	rev.SetGroupVersionKind(gvk)
	s.respond(w, r.Request, http.StatusCreated, rev)
	return nil
}
