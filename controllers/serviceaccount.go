package controllers

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

var everything = labels.Everything()

// serviceAccounts sees to it that every namespace has a ServiceAccount named default: the identity of
// pods which ask for no other. A pod cannot be created before it exists.
func serviceAccounts(c *cluster) loop {
	const name = "default"
	named := c.informersFor(name)
	accounts := named.Core().V1().ServiceAccounts()
	lister := accounts.Lister()
	create := func(ctx context.Context, namespace string) error {
		if _, err := lister.ServiceAccounts(namespace).Get(name); err == nil {
			return nil
		}
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
		_, err := c.client.CoreV1().ServiceAccounts(namespace).Create(ctx, account, metav1.CreateOptions{})
		return err
	}
	queue := c.inEveryNamespace("serviceaccount", create)
	kube.OnChange(accounts.Informer(), func(was, is *corev1.ServiceAccount) { queue.Add(either(was, is).Namespace) })
	return func(ctx context.Context) {
		named.StartWithContext(ctx)
		named.WaitForCacheSyncWithContext(ctx)
		queue.Run(ctx, 2)
	}
}

// rootCA puts the cluster's CA certificate into every namespace, as ConfigMap kube-root-ca.crt. The
// kubelet mounts it into pods beside the token, so that they can trust the API server.
func rootCA(c *cluster) loop {
	const name = "kube-root-ca.crt"
	if len(c.RootCA) == 0 {
		return nil
	}
	named := c.informersFor(name)
	configMaps := named.Core().V1().ConfigMaps()
	lister := configMaps.Lister()
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{
			"kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as " +
				"the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.",
		}},
		Data: map[string]string{"ca.crt": string(c.RootCA)},
	}
	write := func(ctx context.Context, namespace string) error {
		present, err := lister.ConfigMaps(namespace).Get(name)
		if err != nil {
			_, err = c.client.CoreV1().ConfigMaps(namespace).Create(ctx, wanted, metav1.CreateOptions{})
			return err
		}
		if len(present.Data) == 1 && present.Data["ca.crt"] == wanted.Data["ca.crt"] {
			return nil
		}
		mended := present.DeepCopy()
		mended.Data = wanted.Data
		_, err = c.client.CoreV1().ConfigMaps(namespace).Update(ctx, mended, metav1.UpdateOptions{})
		return err
	}
	queue := c.inEveryNamespace("root-ca", write)
	kube.OnChange(configMaps.Informer(), func(was, is *corev1.ConfigMap) { queue.Add(either(was, is).Namespace) })
	return func(ctx context.Context) {
		named.StartWithContext(ctx)
		named.WaitForCacheSyncWithContext(ctx)
		queue.Run(ctx, 2)
	}
}

// inEveryNamespace returns a queue of namespaces, in which those are which should have an object.
// A namespace which is going away gets none, the API server would refuse it.
func (c *cluster) inEveryNamespace(what string, ensure reconcile.Func[string]) *reconcile.Queue[string] {
	namespaces := c.informers.Core().V1().Namespaces()
	lister := namespaces.Lister()
	queue := reconcile.New(what, func(ctx context.Context, name string) error {
		namespace, err := lister.Get(name)
		if apierrors.IsNotFound(err) || namespace.DeletionTimestamp != nil {
			return nil
		}
		err = ensure(ctx, name)
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("write %s of namespace %s: %w", what, name, err)
		}
		return nil
	})
	kube.OnChange(namespaces.Informer(), func(was, is *corev1.Namespace) { queue.Add(either(was, is).Name) })
	return queue
}

// informersFor watches only objects of one name: of all ConfigMaps of the cluster, the CA's.
func (c *cluster) informersFor(name string) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(c.client, 0, informers.WithTransform(trim),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}))
}
