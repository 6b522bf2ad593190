package resource

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
)

// Namespace is a room for names. It stays, Terminating, until the namespace
// controller has emptied it and takes the finalizer "kubernetes" from its spec.
var Namespace = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Namespace", Plural: "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
	Prefix:   "/registry/namespaces/",
	New:      func() Object { return &corev1.Namespace{} },
	NewList:  func() runtime.Object { return &corev1.NamespaceList{} },
	Default:  on(defaultNamespace),
	Prepare:  onBoth(prepareNamespace),
	NameRule: apivalidation.ValidateNamespaceName,
	Fields:   selectable(namespaceFields),
	Status:   true,
	Subresources: []Subresource{
		{Name: "finalize", Kind: "Namespace", Verbs: []string{"update"}},
	},
	Columns: []metav1.TableColumnDefinition{column("Name", "string"), column("Status", "string"), column("Age", "string")},
	Row:     row(namespaceRow),
}

func defaultNamespace(n *corev1.Namespace) {
	if n.Labels == nil {
		n.Labels = map[string]string{}
	}
	if n.Name != "" {
		n.Labels[corev1.LabelMetadataName] = n.Name
	}
}

// prepareNamespace: the finalizers of spec change through the subresource
// finalize only.
func prepareNamespace(n, old *corev1.Namespace) {
	if old != nil {
		n.Spec.Finalizers = old.Spec.Finalizers
		return
	}
	n.Status = corev1.NamespaceStatus{Phase: corev1.NamespaceActive}
	if !slices.Contains(n.Spec.Finalizers, corev1.FinalizerKubernetes) {
		n.Spec.Finalizers = append(n.Spec.Finalizers, corev1.FinalizerKubernetes)
	}
}

func namespaceFields(n *corev1.Namespace) fields.Set {
	return fields.Set{"status.phase": string(n.Status.Phase), "name": n.Name}
}

func namespaceRow(n *corev1.Namespace, now time.Time) []any {
	return []any{n.Name, string(n.Status.Phase), created(n, now)}
}
