package apiserver

import (
	"testing"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podarium/podarium/internal/pki"
)

// TestApprovalKeepsTheRest: a write to the subresource approval changes conditions and annotations, and neither
// the request nor a certificate.
func TestApprovalKeepsTheRest(t *testing.T) {
	api := startServer(t).admin().CertificatesV1().CertificateSigningRequests()
	request, _, err := pki.NewRequest(pki.Request{CommonName: "eve"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = api.Create(t.Context(), &certificatesv1.CertificateSigningRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "eve"},
		Spec: certificatesv1.CertificateSigningRequestSpec{
			Request: request, SignerName: certificatesv1.KubeAPIServerClientSignerName, Usages: []certificatesv1.KeyUsage{certificatesv1.UsageClientAuth},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	patch := `{"metadata":{"annotations":{"by":"me"}},"spec":{"signerName":"example.com/mine"},
		"status":{"certificate":"bm9uZQ==","conditions":[{"type":"Approved","status":"True","reason":"Test"}]}}`
	csr, err := api.Patch(t.Context(), "eve", types.MergePatchType, []byte(patch), metav1.PatchOptions{}, "approval")
	if err != nil {
		t.Fatal(err)
	}
	if csr.Annotations["by"] != "me" || len(csr.Status.Conditions) != 1 || csr.Status.Conditions[0].Status != corev1.ConditionTrue {
		t.Errorf("annotations %v, conditions %v: not those of the patch", csr.Annotations, csr.Status.Conditions)
	}
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientSignerName || len(csr.Status.Certificate) > 0 {
		t.Errorf("signer %s, certificate %q: changed by an approval", csr.Spec.SignerName, csr.Status.Certificate)
	}
}
