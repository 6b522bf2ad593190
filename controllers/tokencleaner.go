package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// tokenCleaner deletes bootstrap tokens whose time is over. The API server accepts them no longer anyway;
// but a list of dead tokens hides the living ones.
type tokenCleaner struct {
	client  kubernetes.Interface
	secrets corelisters.SecretNamespaceLister
}

func tokenCleaning(c *cluster) loop {
	// Only these Secrets, of one namespace: nobody else's come into this process.
	only := informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithTransform(trim), informers.WithNamespace(metav1.NamespaceSystem),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector("type", string(corev1.SecretTypeBootstrapToken)).String()
		}))
	secrets := only.Core().V1().Secrets()
	cleaner := &tokenCleaner{client: c.client, secrets: secrets.Lister().Secrets(metav1.NamespaceSystem)}
	queue := reconcile.New("token-cleaner", func(ctx context.Context, name string) error { return cleaner.sync(ctx, name, time.Now()) })
	kube.OnChange(secrets.Informer(), func(_, is *corev1.Secret) {
		if end, ok := tokenEnd(is); ok {
			queue.AddAfter(is.Name, time.Until(end))
		}
	})
	return func(ctx context.Context) {
		only.StartWithContext(ctx)
		only.WaitForCacheSyncWithContext(ctx)
		queue.Run(ctx, 1)
	}
}

func (c *tokenCleaner) sync(ctx context.Context, name string, now time.Time) error {
	secret, err := c.secrets.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if end, ok := tokenEnd(secret); !ok || now.Before(end) {
		return nil // somebody has prolonged it
	}
	err = c.client.CoreV1().Secrets(secret.Namespace).Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(secret.UID))})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete expired bootstrap token %s: %w", name, err)
	}
	slog.Info("expired bootstrap token deleted", "name", name)
	return nil
}

// tokenEnd is when a bootstrap token expires, unless it never does. One whose date cannot be read has expired.
func tokenEnd(secret *corev1.Secret) (end time.Time, ok bool) {
	if secret == nil {
		return time.Time{}, false
	}
	text, ok := secret.Data["expiration"]
	if !ok || len(text) == 0 {
		return time.Time{}, false
	}
	end, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return time.Time{}, true
	}
	return end, true
}
