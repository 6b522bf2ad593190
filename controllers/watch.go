package controllers

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// onChange calls changed for every object which appears (was is nil), changes, or goes away (is is nil).
// Objects belong to the cache and are never modified.
func onChange[T metav1.Object](informer cache.SharedIndexInformer, changed func(was, is T)) {
	var none T
	// AddEventHandler fails only on a stopped informer, and then nobody needs the events.
	_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(none, obj.(T)) },
		UpdateFunc: func(was, is any) { changed(was.(T), is.(T)) },
		DeleteFunc: func(obj any) {
			// When the watch was interrupted, the deletion itself was missed; the last known state comes
			// wrapped.
			if missed, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = missed.Obj
			}
			if object, ok := obj.(T); ok {
				changed(object, none)
			}
		},
	})
}

// either returns the newer of two states of an object, of which one may be missing.
func either[T interface {
	comparable
	metav1.Object
}](was, is T) T {
	var none T
	if is != none {
		return is
	}
	return was
}

// keyOf is namespace/name, or name alone for what has no namespace.
func keyOf(obj metav1.Object) string {
	return cache.MetaObjectToName(obj).String()
}

// splitKey undoes keyOf.
func splitKey(key string) (namespace, name string) {
	parsed, err := cache.ParseObjectName(key)
	if err != nil {
		return "", key
	}
	return parsed.Namespace, parsed.Name
}
