package controllers

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/internal/reconcile"
)

// csrSigner signs certificate requests which somebody has approved: the CA's key is in one process, and
// who wants a certificate asks through the API. A request names its signer, and each signer has rules of
// what it signs, see
// https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers.
type csrSigner struct {
	client   kubernetes.Interface
	requests certificateslisters.CertificateSigningRequestLister
	ca       *pki.CA
	lifetime time.Duration // --cluster-signing-duration: the most a request gets
}

func csrSigning(c *cluster) loop {
	if c.SigningCA == nil {
		return nil
	}
	requests := c.informers.Certificates().V1().CertificateSigningRequests()
	s := &csrSigner{client: c.client, requests: requests.Lister(), ca: c.SigningCA, lifetime: c.SigningDuration}
	queue := reconcile.New("csr-signing", s.sync)
	kube.OnChange(requests.Informer(), func(_, is *certificatesv1.CertificateSigningRequest) {
		if is != nil {
			queue.Add(is.Name)
		}
	})
	return func(ctx context.Context) { queue.Run(ctx, 1) }
}

func (s *csrSigner) sync(ctx context.Context, name string) error {
	csr, err := s.requests.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	rules, ours := signers[csr.Spec.SignerName]
	if err != nil || !ours || len(csr.Status.Certificate) > 0 || !csrIs(csr, certificatesv1.CertificateApproved) || csrIs(csr, certificatesv1.CertificateFailed) {
		return err
	}
	csr = csr.DeepCopy()
	request, err := pki.ParseRequest(csr.Spec.Request)
	if err == nil {
		err = rules.check(request, csr.Spec.Usages)
	}
	if err != nil {
		csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type: certificatesv1.CertificateFailed, Status: corev1.ConditionTrue,
			Reason: "SignerValidationFailure", Message: err.Error(), LastUpdateTime: metav1.Now(),
		})
	} else if csr.Status.Certificate, err = s.sign(csr, request); err != nil {
		return err
	}
	if _, err := s.client.CertificatesV1().CertificateSigningRequests().UpdateStatus(ctx, csr, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write certificate of request %s: %w", name, err)
	}
	slog.Info("certificate request answered", "name", name, "signer", csr.Spec.SignerName, "for", request.Subject.CommonName, "signed", len(csr.Status.Certificate) > 0)
	return nil
}

func (s *csrSigner) sign(csr *certificatesv1.CertificateSigningRequest, request *x509.CertificateRequest) ([]byte, error) {
	lifetime := s.lifetime
	if want := csr.Spec.ExpirationSeconds; want != nil {
		lifetime = min(lifetime, time.Duration(*want)*time.Second)
	}
	usage, extended, err := keyUsages(csr.Spec.Usages)
	if err != nil {
		return nil, err
	}
	return s.ca.Sign(request, usage, extended, lifetime)
}

// keyUsages translates the API's words into those of X.509.
func keyUsages(usages []certificatesv1.KeyUsage) (usage x509.KeyUsage, extended []x509.ExtKeyUsage, err error) {
	for _, u := range usages {
		switch u {
		case certificatesv1.UsageDigitalSignature:
			usage |= x509.KeyUsageDigitalSignature
		case certificatesv1.UsageKeyEncipherment:
			usage |= x509.KeyUsageKeyEncipherment
		case certificatesv1.UsageClientAuth:
			extended = append(extended, x509.ExtKeyUsageClientAuth)
		case certificatesv1.UsageServerAuth:
			extended = append(extended, x509.ExtKeyUsageServerAuth)
		default:
			return 0, nil, fmt.Errorf("unsupported usage %q", u)
		}
	}
	return usage, extended, nil
}

// signerRules say what a signer signs.
type signerRules struct {
	purpose certificatesv1.KeyUsage // client auth or server auth: needed, and the other is refused
	node    bool                    // only for a kubelet: O=system:nodes, CN=system:node:NAME
	names   namesRule
}

// namesRule is about the DNS names and addresses in a request.
type namesRule int

const (
	namesAllowed namesRule = iota
	namesNeeded
	namesForbidden
)

var signers = map[string]signerRules{
	certificatesv1.KubeAPIServerClientSignerName:        {purpose: certificatesv1.UsageClientAuth},
	certificatesv1.KubeAPIServerClientKubeletSignerName: {purpose: certificatesv1.UsageClientAuth, node: true, names: namesForbidden},
	certificatesv1.KubeletServingSignerName:             {purpose: certificatesv1.UsageServerAuth, node: true, names: namesNeeded},
}

// groupMasters passes every check of the API server: nobody gets into it by a request, as upstream's
// admission has it.
const groupMasters = "system:masters"

const (
	nodeUserPrefix = "system:node:"
	nodesGroup     = "system:nodes"
)

func (r signerRules) check(request *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
	named := len(request.DNSNames) + len(request.IPAddresses)
	nodeName, isNode := strings.CutPrefix(request.Subject.CommonName, nodeUserPrefix)
	switch {
	case slices.Contains(request.Subject.Organization, groupMasters):
		return fmt.Errorf("use of %s in certificate subject is not allowed", groupMasters)
	case !slices.Contains(usages, r.purpose):
		return fmt.Errorf("usages did not include %q", r.purpose)
	case r.node && !slices.Equal(request.Subject.Organization, []string{nodesGroup}):
		return fmt.Errorf("subject organization is not %s", nodesGroup)
	case r.node && (!isNode || nodeName == ""):
		return fmt.Errorf("subject common name does not begin with %s", nodeUserPrefix)
	case len(request.EmailAddresses) > 0:
		return errors.New("email subjectAltNames are not allowed")
	case len(request.URIs) > 0:
		return errors.New("URI subjectAltNames are not allowed")
	case r.names == namesNeeded && named == 0:
		return errors.New("DNS or IP subjectAltName is required")
	case r.names == namesForbidden && named > 0:
		return errors.New("DNS and IP subjectAltNames are not allowed")
	}
	for _, u := range usages {
		if u != certificatesv1.UsageDigitalSignature && u != certificatesv1.UsageKeyEncipherment && u != r.purpose {
			return fmt.Errorf("usage %q is not allowed", u)
		}
	}
	return nil
}

// csrIs tells whether a request has been approved, denied or failed.
func csrIs(csr *certificatesv1.CertificateSigningRequest, condition certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(csr.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == condition
	})
}
