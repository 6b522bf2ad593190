package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	certificateslisters "k8s.io/client-go/listers/certificates/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// Requests for certificates stay for a while, for people to see, and then go: answered ones after an hour,
// those which nobody decided on after a day.
const (
	csrAnsweredLife = time.Hour
	csrPendingLife  = 24 * time.Hour
)

type csrCleaner struct {
	client   kubernetes.Interface
	requests certificateslisters.CertificateSigningRequestLister
}

func csrCleaning(c *cluster) loop {
	requests := c.informers.Certificates().V1().CertificateSigningRequests()
	cleaner := &csrCleaner{client: c.client, requests: requests.Lister()}
	queue := reconcile.New("csr-cleaner", func(ctx context.Context, name string) error { return cleaner.sync(ctx, name, time.Now()) })
	kube.OnChange(requests.Informer(), func(_, is *certificatesv1.CertificateSigningRequest) {
		if is != nil {
			queue.AddAfter(is.Name, time.Until(csrEnd(is)))
		}
	})
	return func(ctx context.Context) { queue.Run(ctx, 1) }
}

func (c *csrCleaner) sync(ctx context.Context, name string, now time.Time) error {
	csr, err := c.requests.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil || now.Before(csrEnd(csr)) {
		return err // a decision came meanwhile, and with it another time
	}
	err = c.client.CertificatesV1().CertificateSigningRequests().Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(csr.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete certificate request %s: %w", name, err)
	}
	slog.Info("old certificate request deleted", "name", name)
	return nil
}

// csrEnd is when a request has been there for long enough.
func csrEnd(csr *certificatesv1.CertificateSigningRequest) time.Time {
	var decided time.Time
	for _, c := range csr.Status.Conditions {
		if c.LastUpdateTime.After(decided) {
			decided = c.LastUpdateTime.Time
		}
	}
	if decided.IsZero() {
		return csr.CreationTimestamp.Add(csrPendingLife)
	}
	return decided.Add(csrAnsweredLife)
}
