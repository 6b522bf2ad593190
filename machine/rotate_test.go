package machine

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/util/certificate"

	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/kubelet"
	"github.com/podarium/podarium/machine/components"
)

// TestKubeletRenewsItsCertificate: one that ends in a minute is replaced at once
// by one that the controllers approve and sign, where kubelet.conf finds it.
func TestKubeletRenewsItsCertificate(t *testing.T) {
	c := startCluster(t)
	j := c.joiner(t, node2)
	byToken, err := j.withToken(c.token(t, Token{TTL: time.Hour}))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.becomeKubelet(t.Context(), byToken); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(j.root, components.KubeletPK)
	store, err := certificate.NewFileStore("kubelet-client", dir, dir, "", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Update(endsSoon(t, c)); err != nil {
		t.Fatal(err)
	}
	asKubelet, err := j.asKubelet()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- kubelet.RotateCertificate(ctx, asKubelet, node2.Name, dir) }()
	eventually(t, func() bool {
		now, err := store.Current()
		return err == nil && leaf(t, now).NotAfter.After(time.Now().Add(time.Hour))
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !j.kubeletWorks(t.Context()) {
		t.Error("the new certificate is not accepted")
	}
}

func endsSoon(t *testing.T, c *cluster) (certPEM, keyPEM []byte) {
	t.Helper()
	id := kubeletClient(node2.Name)
	data, keyPEM, err := pki.NewRequest(pki.Request{CommonName: id.User, Organizations: id.Groups})
	if err != nil {
		t.Fatal(err)
	}
	request, err := pki.ParseRequest(data)
	if err != nil {
		t.Fatal(err)
	}
	certPEM, err = c.ca.Sign(request, x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return certPEM, keyPEM
}

func leaf(t *testing.T, pair *tls.Certificate) *x509.Certificate {
	t.Helper()
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// eventually waits for what has no event, for a minute at most.
func eventually(t *testing.T, happened func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !happened(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("not within a minute")
		}
	}
}
