package controllers

import (
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"
)

// ownWrites lets a controller read its own writes, although it reads from a cache which is late.
//
// Every write to the API server is answered with a resourceVersion, a number which grows with each
// change of the cluster, and a watch delivers changes in this order. So when the ReplicaSet default/web
// has created three pods, and the last answer said 1207, the cache of pods knows all three as soon as it
// has seen 1207. Until then the key default/web is left alone; the event which brings 1207 is an event
// of a pod of default/web, and puts the key into the queue again.
//
// Upstream counted expected creations and deletions here for years; comparable resource versions
// (KEP-5504) make one number enough.
type ownWrites struct {
	cache cache.Store

	mu     sync.Mutex
	newest map[string]string // key → resourceVersion
}

func newOwnWrites(informer cache.SharedIndexInformer) *ownWrites {
	return &ownWrites{cache: informer.GetStore(), newest: map[string]string{}}
}

// wrote remembers that obj, as the API server answered it, was written on behalf of key.
func (w *ownWrites) wrote(key string, obj metav1.Object) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if older(w.newest[key], obj.GetResourceVersion()) {
		w.newest[key] = obj.GetResourceVersion()
	}
}

// visible tells whether the cache has seen all writes made on behalf of key.
func (w *ownWrites) visible(key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	written, ok := w.newest[key]
	if !ok {
		return true
	}
	if older(w.cache.LastStoreSyncResourceVersion(), written) {
		return false
	}
	delete(w.newest, key)
	return true
}

// older compares resource versions; what is not a number (a cache which has seen nothing) is older.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || order < 0
}

// forget drops what is known of a key whose object is gone.
func (w *ownWrites) forget(key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.newest, key)
}
