package apiserver

import (
	"context"
	"net/http"
	"strconv"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

func newWarningHeader(text string) (string, error) { return utilnet.NewWarningHeader(299, "-", text) }

// update answers PUT on an object or on its status.
func (s *Server) update(w http.ResponseWriter, r *request) error {
	o, err := writeOptionsOf(r.Request, "UpdateOptions")
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
	if v := obj.GetResourceVersion(); v != "" {
		if _, err := strconv.ParseUint(v, 10, 64); err != nil {
			return err
		}
	}
	obj = stored(r.kind, obj)
	code := http.StatusOK
	o.fieldManager = managerOf(r.Request)
	var before resource.Object
	done, err := s.modify(r.Context(), r.kind.Stored(), r.namespace, r.name, r.subresource, o, func(current resource.Object) (resource.Object, error) {
		if before = current; current == nil {
			return nil, apierrors.NewNotFound(r.kind.GR(), r.name)
		}
		return obj.DeepCopyObject().(resource.Object), nil
	})
	if apierrors.IsNotFound(err) && r.kind.CreateOnUpdate && r.subresource == "" && obj.GetResourceVersion() == "" {
		code = http.StatusCreated
		done, err = s.createObject(r.Context(), r.kind.Stored(), obj, o)
	}
	if err != nil {
		return err
	}
	return s.respondWritten(w, r, code, done, before)
}

// modify is the common way of update, patch and the subresources that change
// an object: next makes the wanted state from the current one; everything
// that is not the client's to decide is put back; the result is checked and
// written if nobody wrote in between.
func (s *Server) modify(ctx context.Context, kind *resource.Kind, namespace, name, subresource string, o writeOptions, next func(current resource.Object) (resource.Object, error)) (resource.Object, error) {
	key := kind.Key(namespace, name)
	done, err := s.allocate(o.dryRun, func(a *allocation) (resource.Object, error) {
		return s.store.Modify(ctx, key, s.change(ctx, a, kind, key, subresource, o, next))
	})
	return done, apiError(err, kind.GR(), name)
}

// change is the function that modify hands to the store, which may call it
// more than once.
func (s *Server) change(ctx context.Context, a *allocation, kind *resource.Kind, key, subresource string, o writeOptions, next func(resource.Object) (resource.Object, error)) func(store.Object) (store.Write, error) {
	return func(current store.Object) (store.Write, error) {
		obj, err := next(current)
		if err != nil {
			return store.Write{}, err
		}
		if err := preconditions(kind, key, current, obj); err != nil {
			return store.Write{}, err
		}
		keepMeta(kind, obj, current)
		keepParts(kind, obj, current, subresource)
		kind.ApplyDefaults(obj)
		obj = s.track(kind, obj, current, subresource, o)
		if err := s.admitUpdate(ctx, kind, obj, current, subresource); err != nil {
			return store.Write{}, err
		}
		if subresource == "" && kind.Prepare != nil {
			kind.Prepare(obj, current)
		}
		if subresource == "" && kind.Settle != nil {
			if errs := kind.Settle(obj, current); len(errs) > 0 {
				return store.Write{}, apierrors.NewInvalid(kind.GK(), current.GetName(), errs)
			}
		}
		if subresource != "status" && kind.Generation && !sameSpec(obj, current) {
			obj.SetGeneration(current.GetGeneration() + 1)
		}
		return a.write(kind, obj, current, subresource, o)
	}
}

// write allocates for a changed object, checks it, and decides what it means to
// etcd: nothing when it is the same, a deletion when the last thing that held it
// is gone.
func (a *allocation) write(kind *resource.Kind, obj, current resource.Object, subresource string, o writeOptions) (store.Write, error) {
	claims, releases, err := a.assign(obj, current)
	if err != nil {
		return store.Write{}, err
	}
	if errs := kind.CheckUpdate(obj, current, subresource); len(errs) > 0 {
		return store.Write{}, apierrors.NewInvalid(kind.GK(), current.GetName(), errs)
	}
	obj.SetResourceVersion(current.GetResourceVersion())
	w := store.Write{Object: obj, Claims: claims, Releases: releases, DryRun: o.dryRun, TTL: kind.TTL}
	if readyToGo(kind, obj) {
		w.Object, w.Claims, w.Releases = nil, nil, heldKeys(current)
		return w, nil
	}
	w.Unchanged = equal(obj, current)
	if w.Unchanged {
		w.Object = current
	}
	return w, a.late
}

// preconditions: a client that sends resourceVersion or uid means that very
// state of that very object.
func preconditions(kind *resource.Kind, key string, current, obj resource.Object) error {
	v := obj.GetResourceVersion()
	if kind.NamesVersion && (v == "" || v == "0") {
		// Upstream names the resource where other errors name the kind: "leases.coordination.k8s.io".
		named := schema.GroupKind{Group: kind.GroupVersion.Group, Kind: kind.Plural}
		return apierrors.NewInvalid(named, current.GetName(), field.ErrorList{
			field.Invalid(field.NewPath("metadata", "resourceVersion"), 0, "must be specified for an update"),
		})
	}
	if v != "" && v != "0" && v != current.GetResourceVersion() {
		return apierrors.NewConflict(kind.GR(), current.GetName(), errModified)
	}
	if uid := obj.GetUID(); uid != "" && uid != current.GetUID() {
		return apierrors.NewConflict(kind.GR(), current.GetName(), uidConflict(key, uid, current.GetUID()))
	}
	return nil
}

// keepMeta puts back the metadata that only the server writes.
func keepMeta(kind *resource.Kind, obj, current resource.Object) {
	obj.SetResourceVersion(current.GetResourceVersion())
	obj.SetUID(current.GetUID())
	obj.SetCreationTimestamp(current.GetCreationTimestamp())
	obj.SetDeletionTimestamp(current.GetDeletionTimestamp())
	obj.SetDeletionGracePeriodSeconds(current.GetDeletionGracePeriodSeconds())
	obj.SetGeneration(current.GetGeneration())
	obj.SetSelfLink("")
	if obj.GetGenerateName() == "" {
		obj.SetGenerateName(current.GetGenerateName())
	}
	obj.GetObjectKind().SetGroupVersionKind(current.GetObjectKind().GroupVersionKind())
}

// keepParts: a write to the object leaves the status alone, a write to the
// status leaves the spec, the owners and the finalizers alone.
func keepParts(kind *resource.Kind, obj, current resource.Object, subresource string) {
	before := current.DeepCopyObject().(resource.Object)
	if subresource == "" {
		if kind.Status {
			copyField(obj, before, "Status")
		}
		if kind.FixedSpec {
			copyField(obj, before, "Spec")
		}
		return
	}
	switch subresource {
	case "finalize": // the finalizers of a namespace's spec
		wanted := obj.(*corev1.Namespace).Spec.Finalizers
		*obj.(*corev1.Namespace) = *before.(*corev1.Namespace)
		obj.(*corev1.Namespace).Spec.Finalizers = wanted
	case "ephemeralcontainers": // what `kubectl debug` adds to a pod
		wanted := obj.(*corev1.Pod).Spec.EphemeralContainers
		*obj.(*corev1.Pod) = *before.(*corev1.Pod)
		obj.(*corev1.Pod).Spec.EphemeralContainers = wanted
	case "approval": // the decision on a certificate signing request
		csr, old := obj.(*certificatesv1.CertificateSigningRequest), before.(*certificatesv1.CertificateSigningRequest)
		wanted := csr.Status.Conditions
		csr.Spec, csr.Status = old.Spec, old.Status
		csr.Status.Conditions = wanted
	case "status":
		copyField(obj, before, "Spec")
		obj.SetOwnerReferences(before.GetOwnerReferences())
		obj.SetFinalizers(before.GetFinalizers())
	}
}
