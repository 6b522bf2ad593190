package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/certificate"
)

// RotateCertificate renews the kubelet's client certificate when most of its time is over, until ctx
// ends. The certificate is in dir, as kubelet-client-current.pem, which kubelet.conf names: clients read it
// again when it changes. Asking for the next one is what the present one allows; a kubelet that was off
// until after the end has to join anew.
func RotateCertificate(ctx context.Context, client kubernetes.Interface, node, dir string) error {
	store, err := certificate.NewFileStore("kubelet-client", dir, dir, "", "")
	if err != nil {
		return fmt.Errorf("open certificates in %s: %w", dir, err)
	}
	manager, err := certificate.NewManager(&certificate.Config{
		ClientsetFn: func(*tls.Certificate) (kubernetes.Interface, error) { return client, nil },
		Template: &x509.CertificateRequest{
			Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}},
		},
		SignerName:       certificatesv1.KubeAPIServerClientKubeletSignerName,
		Usages:           []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		CertificateStore: store,
		Name:             "kubelet-client",
		Ctx:              &ctx,
	})
	if err != nil {
		return fmt.Errorf("prepare renewal of the certificate in %s: %w", dir, err)
	}
	manager.Start()
	<-ctx.Done()
	manager.Stop()
	return nil
}
