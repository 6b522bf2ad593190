package resource

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// NodePort marks a node port as taken. It is no resource of the API: the keys
// /registry/nodeports/30080 exist so that a port can be claimed in the same
// transaction as its Service is written. Its labels say whose it is.
var NodePort = &Kind{
	GroupVersion: metav1.SchemeGroupVersion,
	Kind:         "PartialObjectMetadata", Plural: "nodeports",
	Prefix:  "/registry/nodeports/",
	New:     func() Object { return &metav1.PartialObjectMetadata{} },
	NewList: func() runtime.Object { return &metav1.PartialObjectMetadataList{} },
}

// MasterLease is an API server that lives: /registry/masterleases/192.168.56.11
// exists while the server of that address renews it.
var MasterLease = &Kind{
	GroupVersion: metav1.SchemeGroupVersion,
	Kind:         "PartialObjectMetadata", Plural: "masterleases",
	Prefix:  "/registry/masterleases/",
	New:     func() Object { return &metav1.PartialObjectMetadata{} },
	NewList: func() runtime.Object { return &metav1.PartialObjectMetadataList{} },
}
