package apiserver

import (
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podarium/podarium/apiserver/resource"
)

// A view is an object, or a list of them, as the client asked to see it:
// itself, its metadata alone, or as the rows of a table.

// view shows one object.
func view(f format, r *http.Request, kind *resource.Kind, obj resource.Object) (runtime.Object, error) {
	switch f.as {
	case "Table":
		return tableOf(r, kind, []resource.Object{obj}, metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}, true)
	case "PartialObjectMetadata":
		return metadataOf(kind, obj), nil
	}
	return shown(kind, obj), nil
}

// viewList shows a list.
func viewList(f format, r *http.Request, kind *resource.Kind, objects []resource.Object, lm metav1.ListMeta) (runtime.Object, error) {
	switch f.as {
	case "Table":
		return tableOf(r, kind, objects, lm, true)
	case "PartialObjectMetadataList", "PartialObjectMetadata":
		list := &metav1.PartialObjectMetadataList{ListMeta: lm, Items: []metav1.PartialObjectMetadata{}}
		list.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadataList"))
		for _, obj := range objects {
			list.Items = append(list.Items, *metadataOf(kind, obj))
		}
		return list, nil
	}
	return listOf(kind, objects, lm)
}

// shown is a stored object as its own group shows it.
func shown(kind *resource.Kind, obj resource.Object) resource.Object {
	if kind.FromStorage != nil {
		return kind.FromStorage(obj)
	}
	return obj
}

func listOf(kind *resource.Kind, objects []resource.Object, lm metav1.ListMeta) (runtime.Object, error) {
	list := kind.NewList()
	items := make([]runtime.Object, len(objects))
	for i, obj := range objects {
		items[i] = shown(kind, obj)
	}
	if err := meta.SetList(list, items); err != nil {
		return nil, err
	}
	// Within a list, items do not repeat their kind. These are shallow copies:
	// the stored objects stay as they are.
	err := meta.EachListItem(list, func(item runtime.Object) error {
		item.GetObjectKind().SetGroupVersionKind(noKind)
		return nil
	})
	if err != nil {
		return nil, err
	}
	list.GetObjectKind().SetGroupVersionKind(kind.GroupVersion.WithKind(kind.Kind + "List"))
	accessor, err := meta.ListAccessor(list)
	if err != nil {
		return nil, err
	}
	accessor.SetResourceVersion(lm.ResourceVersion)
	accessor.SetContinue(lm.Continue)
	accessor.SetRemainingItemCount(lm.RemainingItemCount)
	return list, nil
}

func metadataOf(kind *resource.Kind, obj resource.Object) *metav1.PartialObjectMetadata {
	m := meta.AsPartialObjectMetadata(obj)
	m.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata"))
	return m
}

// tableOf makes the table that `kubectl get` prints.
func tableOf(r *http.Request, kind *resource.Kind, objects []resource.Object, lm metav1.ListMeta, columns bool) (runtime.Object, error) {
	include := metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject"))
	switch include {
	case "", metav1.IncludeMetadata, metav1.IncludeObject, metav1.IncludeNone:
	default:
		return nil, badRequest("Unable to convert to Table as requested: %v",
			field.Invalid(field.NewPath("includeObject"), include, "must be 'Metadata', 'Object', 'None', or empty"))
	}
	table := &metav1.Table{ListMeta: lm, Rows: []metav1.TableRow{}}
	table.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("Table"))
	if columns {
		table.ColumnDefinitions = kind.TableColumns()
	}
	now := time.Now()
	for _, obj := range objects {
		row := metav1.TableRow{Cells: kind.TableRow(obj, now)}
		switch include {
		case metav1.IncludeNone:
		case metav1.IncludeObject:
			row.Object.Object = shown(kind, obj)
		default:
			row.Object.Object = metadataOf(kind, obj)
		}
		table.Rows = append(table.Rows, row)
	}
	return table, nil
}
