package apiserver

import (
	"context"
	"fmt"
	"strings"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
)

// signRequestor writes into a certificate signing request who asks: whoever
// approves it must be able to rely on that.
func signRequestor(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) {
	user := auth.UserOf(ctx)
	csr.Spec.Username, csr.Spec.UID, csr.Spec.Groups, csr.Spec.Extra = user.Name, user.UID, user.Groups, nil
	for key, values := range user.Extra {
		if csr.Spec.Extra == nil {
			csr.Spec.Extra = map[string]certificatesv1.ExtraValue{}
		}
		csr.Spec.Extra[key] = values
	}
}

// mayDecide: beside the right to write the subresource, approving and signing
// each need a right on the signer, such as kubernetes.io/kube-apiserver-client,
// or on all signers of its domain, kubernetes.io/*.
func (s *Server) mayDecide(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, subresource string) error {
	verb := "sign"
	if subresource == "approval" {
		verb = "approve"
	}
	signer := csr.Spec.SignerName
	domain, _, _ := strings.Cut(signer, "/")
	for _, name := range []string{signer, domain + "/*"} {
		a := auth.Attributes{User: auth.UserOf(ctx), Verb: verb, Group: certificatesv1.GroupName, Resource: "signers", Name: name}
		if ok, _ := s.authorizer.Allowed(&a); ok {
			return nil
		}
	}
	return apierrors.NewForbidden(resource.CertificateSigningRequest.GR(), csr.Name, fmt.Errorf("user not permitted to %s requests with signerName %q", verb, signer))
}
