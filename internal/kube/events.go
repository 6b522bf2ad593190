package kube

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// OnChange calls changed for every object which appears (was is nil), changes,
// or goes away (is is nil). Objects belong to the cache and are never modified.
func OnChange[T metav1.Object](informer cache.SharedIndexInformer, changed func(was, is T)) {
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
