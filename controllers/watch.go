package controllers

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

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
