package kubelet

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// objects are the ConfigMaps and Secrets which the node's pods use. A kubelet may not list them all,
// only those of its own pods by name, so there is one watch for each object, shared by the pods.
//
// The first read of an object asks the API server, as waiting for a watch would take longer; the watch
// starts beside it and wakes the pods when the object changes.
type objects struct {
	client kubernetes.Interface
	ctx    context.Context // ends with the kubelet, and with it all watches

	mu      sync.Mutex
	watched map[objectKey]*watchedObject
}

type objectKey struct{ resource, namespace, name string }

type watchedObject struct {
	informer cache.Controller
	store    cache.Store
	cancel   context.CancelFunc
	users    map[types.UID]func() // pod → what wakes its worker
}

func newObjects(ctx context.Context, client kubernetes.Interface) *objects {
	return &objects{client: client, ctx: ctx, watched: map[objectKey]*watchedObject{}}
}

// configMap returns a ConfigMap for a pod; changed is called when it is another one.
func (o *objects) configMap(ctx context.Context, pod types.UID, changed func(), namespace, name string) (*corev1.ConfigMap, error) {
	key := objectKey{"configmaps", namespace, name}
	if object, ok := o.cached(key, pod, changed, &corev1.ConfigMap{}); ok {
		return object.(*corev1.ConfigMap), nil
	}
	object, err := o.client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
	return object, notFound(err, "configmap", name)
}

// secret returns a Secret for a pod; changed is called when it is another one.
func (o *objects) secret(ctx context.Context, pod types.UID, changed func(), namespace, name string) (*corev1.Secret, error) {
	key := objectKey{"secrets", namespace, name}
	if object, ok := o.cached(key, pod, changed, &corev1.Secret{}); ok {
		return object.(*corev1.Secret), nil
	}
	object, err := o.client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
	return object, notFound(err, "secret", name)
}

// notFound says configmap "web" not found, as upstream's kubelet does and its API server does not: in
// events and states people look for these words.
func notFound(err error, kind, name string) error {
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(corev1.Resource(kind), name)
	}
	return err
}

// cached looks into the watch of an object, and starts one if there is none.
func (o *objects) cached(key objectKey, pod types.UID, changed func(), kind runtime.Object) (any, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w, ok := o.watched[key]
	if !ok {
		w = o.watch(key, kind)
		o.watched[key] = w
	}
	w.users[pod] = changed
	if !w.informer.HasSynced() {
		return nil, false
	}
	object, exists, err := w.store.GetByKey(key.namespace + "/" + key.name)
	return object, exists && err == nil
}

func (o *objects) watch(key objectKey, kind runtime.Object) *watchedObject {
	w := &watchedObject{users: map[types.UID]func(){}}
	wake := func(any) { o.wake(w) }
	source := cache.NewListWatchFromClient(o.client.CoreV1().RESTClient().(*rest.RESTClient),
		key.resource, key.namespace, fields.OneTermEqualSelector(metav1.ObjectNameField, key.name))
	w.store, w.informer = cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.ToListWatcherWithWatchListSemantics(source, o.client),
		ObjectType:    kind,
		Transform:     dropManagedFields,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    wake,
			UpdateFunc: func(_, object any) { wake(object) },
		},
	})
	ctx, cancel := context.WithCancel(o.ctx)
	w.cancel = cancel
	go w.informer.RunWithContext(ctx)
	return w
}

func (o *objects) wake(w *watchedObject) {
	o.mu.Lock()
	users := make([]func(), 0, len(w.users))
	for _, changed := range w.users {
		users = append(users, changed)
	}
	o.mu.Unlock()
	for _, changed := range users {
		changed()
	}
}

// release ends a pod's interest; a watch without pods ends.
func (o *objects) release(pod types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key, w := range o.watched {
		delete(w.users, pod)
		if len(w.users) == 0 {
			w.cancel()
			delete(o.watched, key)
		}
	}
}

// dropManagedFields leaves out who set which field: a third of an object's memory, and never read here.
func dropManagedFields(object any) (any, error) {
	if accessor, ok := object.(metav1.Object); ok {
		accessor.SetManagedFields(nil)
	}
	return object, nil
}
