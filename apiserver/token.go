package apiserver

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
)

// Bounds of a token's life, in seconds, as upstream.
const (
	minTokenSeconds = 600
	maxTokenSeconds = 1 << 32
)

// token answers POST serviceaccounts/NAME/token. The kubelet asks here for the
// tokens it mounts into pods, each bound to its pod.
func (s *Server) token(w http.ResponseWriter, r *request) error {
	gvk := authenticationv1.SchemeGroupVersion.WithKind("TokenRequest")
	req, err := decodePart(r, gvk, &authenticationv1.TokenRequest{})
	if err != nil {
		return err
	}
	if req.Spec.ExpirationSeconds == nil {
		hour := int64(3600)
		req.Spec.ExpirationSeconds = &hour
	}
	if err := checkTokenRequest(r.name, req); err != nil {
		return err
	}
	obj, err := s.store.Get(r.Context(), r.kind.Key(r.namespace, r.name))
	if err != nil {
		return apiError(err, r.kind.GR(), r.name)
	}
	want := auth.Request{
		Account: obj.(*corev1.ServiceAccount), Audiences: req.Spec.Audiences,
		Lifetime: time.Duration(*req.Spec.ExpirationSeconds) * time.Second,
	}
	if err := s.bindToken(r, req.Spec.BoundObjectRef, &want); err != nil {
		return err
	}
	token, expires, err := s.tokens.Issue(want, time.Now())
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	req.Status = authenticationv1.TokenRequestStatus{Token: token, ExpirationTimestamp: metav1.NewTime(expires)}
	if len(req.Spec.Audiences) == 0 {
		req.Spec.Audiences = []string{s.cfg.ServiceAccountIssuer}
	}
	req.Name, req.Namespace, req.CreationTimestamp = r.name, r.namespace, metav1.Now().Rfc3339Copy()
	req.SetGroupVersionKind(gvk)
	s.respond(w, r.Request, http.StatusCreated, req)
	return nil
}

func checkTokenRequest(name string, req *authenticationv1.TokenRequest) error {
	path, n := field.NewPath("spec", "expirationSeconds"), *req.Spec.ExpirationSeconds
	var errs field.ErrorList
	if n < minTokenSeconds {
		errs = append(errs, field.Invalid(path, n, "may not specify a duration less than 10 minutes"))
	}
	if n > maxTokenSeconds {
		errs = append(errs, field.Invalid(path, n, "may not specify a duration larger than 2^32 seconds"))
	}
	if len(errs) > 0 {
		return apierrors.NewInvalid(authenticationv1.SchemeGroupVersion.WithKind("TokenRequest").GroupKind(), name, errs)
	}
	return nil
}

// bindToken finds the pod or Secret the token shall live and die with. A
// kubelet may only ask for tokens of pods on its own node.
func (s *Server) bindToken(r *request, ref *authenticationv1.BoundObjectReference, want *auth.Request) error {
	node := auth.NodeOf(auth.UserOf(r.Context()))
	if ref == nil {
		if node != "" {
			return apierrors.NewForbidden(r.kind.GR(), r.name, fmt.Errorf("node requested token not bound to a pod"))
		}
		return nil
	}
	kind := map[string]*resource.Kind{"Pod": resource.Pod, "Secret": resource.Secret}[ref.Kind]
	if kind == nil {
		return badRequest("cannot bind token to object of type %s", ref.Kind)
	}
	obj, err := s.store.Get(r.Context(), kind.Key(r.namespace, ref.Name))
	if err != nil {
		return apiError(err, kind.GR(), ref.Name)
	}
	if ref.UID != "" && ref.UID != obj.GetUID() {
		return apierrors.NewConflict(kind.GR(), ref.Name, fmt.Errorf("the UID in the bound object reference (%s) does not match the UID in record. The object might have been deleted and then recreated", ref.UID))
	}
	switch o := obj.(type) {
	case *corev1.Secret:
		want.Secret = o
	case *corev1.Pod:
		want.Pod = o
		if o.Spec.ServiceAccountName != r.name {
			return badRequest("cannot bind token for serviceaccount %q to pod running with different serviceaccount name.", r.name)
		}
		if n, ok := s.store.Cached(resource.Node.Key("", o.Spec.NodeName)); ok && o.Spec.NodeName != "" {
			want.Node = &auth.Ref{Name: n.GetName(), UID: n.GetUID()}
		}
	}
	if node != "" && (want.Pod == nil || want.Pod.Spec.NodeName != node) {
		return apierrors.NewForbidden(r.kind.GR(), r.name, errors.New("node requested token bound to a pod scheduled on a different node"))
	}
	return nil
}
