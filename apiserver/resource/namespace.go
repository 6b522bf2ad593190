package resource

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Namespace is a room for names. It stays, Terminating, until the namespace
// controller has emptied it and takes the finalizer "kubernetes" from its spec.
var Namespace = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Namespace", Plural: "namespaces", Singular: "namespace", ShortNames: []string{"ns"},
	Prefix:    "/registry/namespaces/",
	MetaAgain: metaAround,
	New:       func() Object { return &corev1.Namespace{} },
	NewList:   func() runtime.Object { return &corev1.NamespaceList{} },
	Default:   on(defaultNamespace),
	Prepare:   onBoth(prepareNamespace),
	Validate: check(func(n, _ *corev1.Namespace) field.ErrorList {
		return validateFinalizers(n, func(int) *field.Path { return finalizersPath })
	}),
	CheckPart: map[string]func(obj, old Object) field.ErrorList{
		"finalize": check(func(n, _ *corev1.Namespace) field.ErrorList { return validateFinalizers(n, finalizersPath.Index) }),
	},
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

var finalizersPath = field.NewPath("spec", "finalizers")

// validateFinalizers: who holds a namespace is named example.com/name, or is
// Kubernetes itself.
func validateFinalizers(n *corev1.Namespace, at func(i int) *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, f := range n.Spec.Finalizers {
		name := string(f)
		errs = append(errs, apivalidation.ValidateFinalizerName(name, at(i))...)
		errs = append(errs, qualifiedFinalizer(name, at(i))...)
	}
	return errs
}

func namespaceFields(n *corev1.Namespace) fields.Set {
	return fields.Set{"status.phase": string(n.Status.Phase), "name": n.Name}
}

func namespaceRow(n *corev1.Namespace, now time.Time) []any {
	return []any{n.Name, string(n.Status.Phase), created(n, now)}
}
