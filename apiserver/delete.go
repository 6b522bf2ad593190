package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// delete answers DELETE on an object.
//
// Deleting has up to three steps, and this is the first: an object that
// something still holds (a finalizer, a pod's grace period, a namespace's
// content) gets a deletionTimestamp and stays. Whoever holds it removes its
// hold by an update, and the last one makes the object go (readyToGo).
func (s *Server) delete(w http.ResponseWriter, r *request) error {
	o, err := deleteOptionsOf(r)
	if err != nil {
		return err
	}
	warnOfOrphans(w, r.kind, o)
	if err := s.admitDelete(r.Context(), r.kind, r.namespace, r.name); err != nil {
		return err
	}
	obj, gone, err := s.deleteObject(r.Context(), r.kind.Stored(), r.namespace, r.name, o)
	if err != nil {
		return err
	}
	if gone && !r.kind.ReturnDeleted {
		status := &metav1.Status{
			TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
			Details: &metav1.StatusDetails{Name: r.name, Group: r.kind.GroupVersion.Group, Kind: r.kind.Plural, UID: obj.GetUID()},
		}
		f, err := negotiate(r.Request)
		if err != nil {
			return err
		}
		writeObject(w, r.Request, format{info: f.info}, http.StatusOK, status)
		return nil
	}
	return s.respondObject(w, r, http.StatusOK, obj, nil)
}

// deleteCollection answers DELETE on a collection.
func (s *Server) deleteCollection(w http.ResponseWriter, r *request) error {
	f, err := negotiate(r.Request)
	if err != nil {
		return err
	}
	lo, err := listOptionsOf(r.URL.Query(), false)
	if err != nil {
		return err
	}
	match, err := newMatcher(r.kind, lo)
	if err != nil {
		return err
	}
	o, err := deleteOptionsOf(r)
	if err != nil {
		return err
	}
	warnOfOrphans(w, r.kind, o)
	objects, lm, err := s.listObjects(r.Context(), r.kind, r.namespace, lo, match)
	if err != nil {
		return apiError(err, r.kind.GR(), "")
	}
	for _, obj := range objects {
		_, _, err := s.deleteObject(r.Context(), r.kind.Stored(), obj.GetNamespace(), obj.GetName(), o)
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	v, err := viewList(f, r.Request, r.kind, objects, lm)
	if err != nil {
		return err
	}
	writeObject(w, r.Request, f, http.StatusOK, v)
	return nil
}

// warnOfOrphans tells who has said nothing of dependents that they will stay.
func warnOfOrphans(w http.ResponseWriter, kind *resource.Kind, o *metav1.DeleteOptions) {
	if kind.OrphanWarning != "" && o.PropagationPolicy == nil && o.OrphanDependents == nil {
		addWarnings(w, []string{kind.OrphanWarning})
	}
}

// deleteObject takes the first step; gone says that it was also the last.
func (s *Server) deleteObject(ctx context.Context, kind *resource.Kind, namespace, name string, o *metav1.DeleteOptions) (obj resource.Object, gone bool, err error) {
	done, err := s.store.Modify(ctx, kind.Key(namespace, name), func(current store.Object) (store.Write, error) {
		gone = false
		if current == nil {
			return store.Write{}, apierrors.NewNotFound(kind.GR(), name)
		}
		if err := deletePreconditions(kind, current, o.Preconditions); err != nil {
			return store.Write{}, err
		}
		next := current.DeepCopyObject().(resource.Object)
		markDeleted(kind, next, o, time.Now())
		if readyToGo(kind, next) {
			gone = true
			return store.Write{Releases: heldKeys(current), DryRun: len(o.DryRun) > 0}, nil
		}
		if equal(next, current) {
			return store.Write{Object: current, Unchanged: true}, nil
		}
		return store.Write{Object: next, DryRun: len(o.DryRun) > 0}, nil
	})
	return done, gone, apiError(err, kind.GR(), name)
}

// markDeleted writes the wish to delete into the object: when, with how much
// grace, and what shall become of its dependents.
func markDeleted(kind *resource.Kind, obj resource.Object, o *metav1.DeleteOptions, now time.Time) {
	propagate(kind, obj, o)
	grace := gracePeriod(kind, obj, o)
	if old := obj.GetDeletionTimestamp(); old != nil {
		have := obj.GetDeletionGracePeriodSeconds()
		// A second delete may shorten the time that is left, never lengthen it.
		if have != nil && grace < *have {
			at := metav1.NewTime(old.Add(time.Duration(grace-*have) * time.Second)).Rfc3339Copy()
			obj.SetDeletionTimestamp(&at)
			obj.SetDeletionGracePeriodSeconds(&grace)
		}
		return
	}
	at := metav1.NewTime(now.Add(time.Duration(grace) * time.Second)).Rfc3339Copy()
	obj.SetDeletionTimestamp(&at)
	obj.SetDeletionGracePeriodSeconds(&grace)
	if obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		ns.SetDeletionGracePeriodSeconds(nil)
		ns.Status.Phase = corev1.NamespaceTerminating
	}
}

// gracePeriod is how many seconds a pod's containers get to end. Pods that no
// kubelet has, or that have ended, need none; other kinds never do.
func gracePeriod(kind *resource.Kind, obj resource.Object, o *metav1.DeleteOptions) int64 {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return 0
	}
	if pod.Spec.NodeName == "" || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded {
		return 0
	}
	switch {
	case o.GracePeriodSeconds != nil:
		return max(*o.GracePeriodSeconds, 0)
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		return max(*pod.Spec.TerminationGracePeriodSeconds, 0)
	}
	return 30
}

// propagate sets the finalizers that ask the garbage collector for more than
// its usual work: "orphan" to cut the dependents loose first, "foregroundDeletion"
// to delete them before their owner.
func propagate(kind *resource.Kind, obj resource.Object, o *metav1.DeleteOptions) {
	policy := metav1.DeletePropagationBackground
	switch {
	case o.PropagationPolicy != nil:
		policy = *o.PropagationPolicy
	case o.OrphanDependents != nil && *o.OrphanDependents:
		policy = metav1.DeletePropagationOrphan
	case o.OrphanDependents == nil && slices.Contains(obj.GetFinalizers(), metav1.FinalizerOrphanDependents):
		policy = metav1.DeletePropagationOrphan
	case o.OrphanDependents == nil && slices.Contains(obj.GetFinalizers(), metav1.FinalizerDeleteDependents):
		policy = metav1.DeletePropagationForeground
	case o.OrphanDependents == nil && kind.OrphanByDefault:
		policy = metav1.DeletePropagationOrphan
	}
	finalizers := slices.DeleteFunc(slices.Clone(obj.GetFinalizers()), func(f string) bool {
		return f == metav1.FinalizerOrphanDependents || f == metav1.FinalizerDeleteDependents
	})
	switch policy {
	case metav1.DeletePropagationOrphan:
		finalizers = append(finalizers, metav1.FinalizerOrphanDependents)
	case metav1.DeletePropagationForeground:
		finalizers = append(finalizers, metav1.FinalizerDeleteDependents)
	}
	if len(finalizers) == 0 {
		finalizers = nil
	}
	obj.SetFinalizers(finalizers)
}

// readyToGo reports whether nothing holds a deleted object any more.
func readyToGo(kind *resource.Kind, obj resource.Object) bool {
	if obj.GetDeletionTimestamp() == nil || len(obj.GetFinalizers()) > 0 {
		return false
	}
	if ns, ok := obj.(*corev1.Namespace); ok {
		return len(ns.Spec.Finalizers) == 0
	}
	grace := obj.GetDeletionGracePeriodSeconds()
	return grace == nil || *grace == 0
}

func deletePreconditions(kind *resource.Kind, current resource.Object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	gr := kind.GR()
	gr.Resource = kind.Kind
	if p.UID != nil && *p.UID != current.GetUID() {
		return apierrors.NewConflict(gr, current.GetName(), fmt.Errorf(
			"the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, current.GetUID()))
	}
	if v := p.ResourceVersion; v != nil && *v != current.GetResourceVersion() {
		return apierrors.NewConflict(gr, current.GetName(), fmt.Errorf(
			"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *v, current.GetResourceVersion()))
	}
	return nil
}

// deleteOptionsOf reads DeleteOptions from the body, or else from the query.
func deleteOptionsOf(r *request) (*metav1.DeleteOptions, error) {
	o := &metav1.DeleteOptions{}
	body, err := readBody(r.Request)
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		gvk := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
		gvk.Group = ""
		decoded, _, err := decodeBody(r.Header.Get("Content-Type"), body, gvk, o, metav1.FieldValidationIgnore)
		if err != nil {
			return nil, err
		}
		var ok bool
		if o, ok = decoded.(*metav1.DeleteOptions); !ok {
			k := decoded.GetObjectKind().GroupVersionKind()
			return nil, badRequest("no kind %q is registered for version %q as DeleteOptions", k.Kind, k.GroupVersion())
		}
	} else if err := deleteQuery(r, o); err != nil {
		return nil, err
	}
	return o, checkDeleteOptions(o)
}

func deleteQuery(r *request, o *metav1.DeleteOptions) error {
	q := r.URL.Query()
	o.DryRun = q["dryRun"]
	if q.Has("gracePeriodSeconds") {
		n, err := number(q, "gracePeriodSeconds")
		if err != nil {
			return err
		}
		o.GracePeriodSeconds = &n
	}
	if p := metav1.DeletionPropagation(q.Get("propagationPolicy")); p != "" {
		o.PropagationPolicy = &p
	}
	if q.Has("orphanDependents") {
		orphan := truthy(q.Get("orphanDependents"))
		o.OrphanDependents = &orphan
	}
	return nil
}

func checkDeleteOptions(o *metav1.DeleteOptions) error {
	var errs field.ErrorList
	if p := o.PropagationPolicy; p != nil {
		switch *p {
		case metav1.DeletePropagationForeground, metav1.DeletePropagationBackground, metav1.DeletePropagationOrphan:
		default:
			errs = append(errs, field.NotSupported(field.NewPath("propagationPolicy"), p, []string{
				string(metav1.DeletePropagationForeground), string(metav1.DeletePropagationBackground), string(metav1.DeletePropagationOrphan), "nil",
			}))
		}
		if o.OrphanDependents != nil {
			errs = append(errs, field.Invalid(field.NewPath("propagationPolicy"), *p, "orphanDependents and deletionPropagation cannot be both set"))
		}
	}
	if _, err := dryRunOf(o.DryRun); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return invalidOptions("DeleteOptions", errs...)
	}
	return nil
}

func uidConflict(key string, asked, have types.UID) error {
	return fmt.Errorf("StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: %s, UID in object meta: %s", key, asked, have)
}
