package apiserver

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/podarium/podarium/apiserver/resource"
)

// Every field of an object has an owner: the client that wrote it last.
// metadata.managedFields tells (`kubectl get -o yaml --show-managed-fields`):
//
//	manager: kubectl-create        operation: Update   f:spec: {f:replicas: {}, …}
//	manager: kubelet               operation: Update   subresource: status
//	manager: deploy-bot            operation: Apply
//
// What nobody sent, such as an address that the server chose, nobody owns. The
// names are what the client gives as fieldManager, or else the first word of
// its User-Agent. Server-side apply (apply.go) decides by them what is a conflict.

// ownManager is the name under which the server itself writes.
const ownManager = "kube-apiserver"

// fieldManagers merges and tracks, one for each kind and subresource. The
// schemas of all types (1 MB) are loaded with the first write, in 60 ms.
type fieldManagers struct {
	mu        sync.Mutex
	converter managedfields.TypeConverter
	byPart    map[partOfKind]*managedfields.FieldManager
}

type partOfKind struct {
	kind        *resource.Kind
	subresource string
}

// of returns nil for kinds of which there is no schema, such as APIService.
func (f *fieldManagers) of(kind *resource.Kind, subresource string) (*managedfields.FieldManager, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	part := partOfKind{kind, subresource}
	if m, ok := f.byPart[part]; ok {
		return m, nil
	}
	if f.converter == nil {
		f.converter = applyconfigurations.NewTypeConverter(scheme)
		f.byPart = map[partOfKind]*managedfields.FieldManager{}
	}
	converter := f.converter
	if kind == scaleOnly { // client-go has no schema of it; it needs none, without lists
		converter = managedfields.NewDeducedTypeConverter()
	}
	example, err := converter.ObjectToTyped(emptyObject(kind))
	if err != nil {
		f.byPart[part] = nil
		return nil, nil
	}
	m, err := managedfields.NewDefaultFieldManager(trusting{converter, kind.GVK(), example}, runtime.UnsafeObjectConvertor(scheme), kindDefaulter{kind}, scheme,
		kind.GVK(), kind.GroupVersion, subresource, part.ignored())
	if err != nil {
		return nil, fmt.Errorf("make field manager of %s: %w", kind.Kind, err)
	}
	f.byPart[part] = m
	return m, nil
}

// trusting does not check that an object has the fields of its type when it is a
// Go value of that type: it was decoded into it. That check is half of what it
// takes to find a write's owners. What a client applies is still checked.
type trusting struct {
	managedfields.TypeConverter
	kind    schema.GroupVersionKind
	example *typed.TypedValue // any object of the kind: carries its schema
}

func (t trusting) ObjectToTyped(obj runtime.Object, options ...typed.ValidationOptions) (*typed.TypedValue, error) {
	_, raw := obj.(*unstructured.Unstructured)
	if raw || !slices.Contains(options, typed.AllowDuplicates) || obj.GetObjectKind().GroupVersionKind() != t.kind {
		return t.TypeConverter.ObjectToTyped(obj, options...)
	}
	v, err := value.NewValueReflect(obj)
	if err != nil {
		return nil, fmt.Errorf("read the fields of a %s: %w", t.kind.Kind, err)
	}
	return typed.AsTypedUnvalidated(v, t.example.Schema(), t.example.TypeRef()), nil //nolint:staticcheck // deprecated as validation is cheap; here it was half of the work
}

// ignored are the fields that a write cannot change and so does not own: the
// status, when the object is written, the spec, when its status is.
func (p partOfKind) ignored() map[fieldpath.APIVersion]fieldpath.Filter {
	others := fieldpath.NewSet()
	if p.subresource == "status" || p.kind.FixedSpec {
		others.Insert(fieldpath.MakePathOrDie("spec"))
	}
	if p.subresource == "" && p.kind.Status {
		others.Insert(fieldpath.MakePathOrDie("status"))
	}
	if others.Empty() {
		return nil
	}
	version := fieldpath.APIVersion(p.kind.GroupVersion.String())
	return map[fieldpath.APIVersion]fieldpath.Filter{version: fieldpath.NewExcludeSetFilter(others)}
}

// emptyObject has nothing but its kind.
func emptyObject(kind *resource.Kind) resource.Object {
	obj := kind.New()
	obj.GetObjectKind().SetGroupVersionKind(kind.GVK())
	return obj
}

type kindDefaulter struct{ kind *resource.Kind }

func (d kindDefaulter) Default(in runtime.Object) {
	if obj, ok := in.(resource.Object); ok && obj.GetObjectKind().GroupVersionKind() == d.kind.GVK() {
		if _, raw := in.(*unstructured.Unstructured); !raw {
			d.kind.ApplyDefaults(obj)
		}
	}
}

// track records a write: what it changes belongs to o.fieldManager. current is
// nil on create. The server's own decisions about an object, such as binding a
// pod to a node, have no manager and are not recorded.
func (s *Server) track(kind *resource.Kind, obj, current resource.Object, subresource string, o writeOptions) resource.Object {
	if o.applied || o.fieldManager == "" {
		return obj
	}
	manager, err := s.managers.of(kind, subresource)
	if err != nil || manager == nil {
		return obj
	}
	before := current
	if before == nil {
		before = emptyObject(kind)
	} else {
		before = before.DeepCopyObject().(resource.Object)
	}
	tracked, err := asKind(kind, manager.UpdateNoErrors(before, obj, o.fieldManager))
	if err != nil {
		return obj
	}
	return tracked
}

// wholeSeconds makes the times of the entries what will be read again.
func wholeSeconds(obj resource.Object) {
	entries := obj.GetManagedFields()
	for i := range entries {
		if t := entries[i].Time; t != nil {
			whole := t.Rfc3339Copy()
			entries[i].Time = &whole
		}
	}
}

// managerOf is the name of a client that gives none: the first word of its
// User-Agent, "kubectl" of "kubectl/v1.33.1 (linux/amd64)".
func managerOf(r *http.Request) string {
	if m := r.URL.Query().Get("fieldManager"); m != "" {
		return m
	}
	first, _, _ := strings.Cut(r.UserAgent(), "/")
	var name strings.Builder
	for _, c := range first {
		if name.Len()+utf8.RuneLen(c) > metav1validation.FieldManagerMaxLength {
			break
		}
		if unicode.IsPrint(c) {
			name.WriteRune(c)
		}
	}
	if name.Len() == 0 {
		return "unknown"
	}
	return name.String()
}
