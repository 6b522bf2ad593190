package apiserver

import (
	"context"
	"errors"
	"net/http"
	"reflect"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// create answers POST on a collection.
func (s *Server) create(w http.ResponseWriter, r *request) error {
	o, err := writeOptionsOf(r.Request, "CreateOptions")
	if err != nil {
		return err
	}
	obj, warnings, err := decodeObject(r.Request, r.kind, o.validation)
	if err != nil {
		return err
	}
	addWarnings(w, warnings) // also when the object is refused
	if err := checkPath(obj, r.target, r.kind); err != nil {
		return err
	}
	o.fieldManager = managerOf(r.Request)
	created, err := s.createObject(r.Context(), r.kind, obj, o)
	if err != nil {
		return err
	}
	return s.respondWritten(w, r, http.StatusCreated, created, nil)
}

// respondWritten answers a write with what is stored now, and with what the
// client should know about it; before is what was stored, nil when nothing was.
func (s *Server) respondWritten(w http.ResponseWriter, r *request, code int, obj, before resource.Object) error {
	var warnings []string
	if r.subresource == "" {
		warnings = r.kind.Stored().Warnings(obj, before)
	}
	return s.respondObject(w, r, code, obj, warnings)
}

// respondObject answers with a stored object.
func (s *Server) respondObject(w http.ResponseWriter, r *request, code int, obj resource.Object, warnings []string) error {
	f, err := negotiate(r.Request)
	if err != nil {
		return err
	}
	v, err := view(f, r.Request, r.kind, obj)
	if err != nil {
		return err
	}
	addWarnings(w, warnings)
	writeObject(w, r.Request, f, code, v)
	return nil
}

// addWarnings puts texts where kubectl prints them: "Warning: …".
func addWarnings(w http.ResponseWriter, warnings []string) {
	for _, text := range warnings {
		if header, err := newWarningHeader(text); err == nil {
			w.Header().Add("Warning", header)
		}
	}
}

// createObject stores a new object. This is the whole way from a decoded body
// to etcd, for clients and for the server's own objects alike.
func (s *Server) createObject(ctx context.Context, kind *resource.Kind, obj resource.Object, o writeOptions) (resource.Object, error) {
	obj = stored(kind, obj)
	kind = kind.Stored()
	if obj.GetResourceVersion() != "" {
		return nil, errors.New("resourceVersion should not be set on objects to be created")
	}
	generated := obj.GetName() == "" && obj.GetGenerateName() != ""
	initMeta(kind, obj)
	kind.ApplyDefaults(obj)
	obj = s.track(kind, obj, nil, "", o)
	if err := s.admitCreate(ctx, kind, obj); err != nil {
		return nil, err
	}
	if kind.Prepare != nil {
		kind.Prepare(obj, nil)
	}
	if kind.Settle != nil {
		if errs := kind.Settle(obj, nil); len(errs) > 0 {
			return nil, apierrors.NewInvalid(kind.GK(), obj.GetName(), errs)
		}
	}
	done, err := s.insert(ctx, kind, obj, o)
	if generated && apierrors.IsAlreadyExists(err) {
		return nil, apierrors.NewGenerateNameConflict(kind.GR(), obj.GetName(), 1)
	}
	return done, err
}

// insert writes the object where nothing may be yet, with what it allocates.
// What is allocated is checked, too, so validation comes after it.
func (s *Server) insert(ctx context.Context, kind *resource.Kind, obj resource.Object, o writeOptions) (resource.Object, error) {
	key := kind.Key(obj.GetNamespace(), obj.GetName())
	return s.allocate(o.dryRun, func(a *allocation) (resource.Object, error) {
		return s.store.Modify(ctx, key, func(current store.Object) (store.Write, error) {
			next := obj.DeepCopyObject().(resource.Object)
			claims, _, err := a.assign(next, nil)
			if err != nil {
				return store.Write{}, err
			}
			if errs := kind.Check(next, nil); len(errs) > 0 {
				return store.Write{}, apierrors.NewInvalid(kind.GK(), next.GetName(), errs)
			}
			if current != nil {
				return store.Write{}, apierrors.NewAlreadyExists(kind.GR(), obj.GetName())
			}
			return store.Write{Object: next, Claims: claims, DryRun: o.dryRun, TTL: kind.TTL}, a.late
		})
	})
}

// initMeta sets what the server decides about a new object.
func initMeta(kind *resource.Kind, obj resource.Object) {
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(generateName(obj.GetGenerateName()))
	}
	obj.SetUID(uuid.NewUUID())
	obj.SetCreationTimestamp(metav1.Now().Rfc3339Copy())
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetSelfLink("")
	obj.SetGeneration(0)
	if kind.Generation {
		obj.SetGeneration(1)
	}
	if kind.Status {
		copyField(obj, kind.New(), "Status")
	}
	obj.GetObjectKind().SetGroupVersionKind(kind.GVK())
}

// generateName adds five random letters that make no words: "web-" → "web-x7k2p".
func generateName(base string) string {
	const longest = 63 - 5
	if len(base) > longest {
		base = base[:longest]
	}
	return base + rand.String(5)
}

// stored turns an object of a second group into the one that is stored.
func stored(kind *resource.Kind, obj resource.Object) resource.Object {
	if kind.ToStorage != nil {
		return kind.ToStorage(obj)
	}
	return obj
}

// copyField sets dst's field of this name (Spec, Status) to src's.
func copyField(dst, src resource.Object, name string) {
	d := reflect.ValueOf(dst).Elem().FieldByName(name)
	if d.IsValid() {
		d.Set(reflect.ValueOf(src).Elem().FieldByName(name))
	}
}

// sameSpec reports whether two objects differ at most in metadata and status.
func sameSpec(a, b resource.Object) bool {
	va, vb := reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem()
	for i := range va.NumField() {
		switch va.Type().Field(i).Name {
		case "TypeMeta", "ObjectMeta", "Status":
			continue
		}
		if !equal(va.Field(i).Interface(), vb.Field(i).Interface()) {
			return false
		}
	}
	return true
}
