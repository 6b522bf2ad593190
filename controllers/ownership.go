package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// claims is the outcome of matching an owner with the objects around it.
type claims[T metav1.Object] struct {
	mine    []T // owned, and selected
	adopt   []T // selected, and owned by nobody
	release []T // owned, but no longer selected (somebody changed a label)
}

// planClaims decides who belongs to owner. An object has one controlling owner at most, named by UID in
// its ownerReferences; a selector alone would let two ReplicaSets with overlapping selectors fight.
// Taking a pod out of its ReplicaSet for inspection, by changing its label, is a release:
//
//	kubectl label pod web-5d4f8c7b9-abcde app=quarantine --overwrite
func planClaims[T metav1.Object](owner metav1.Object, selector labels.Selector, candidates []T) claims[T] {
	var c claims[T]
	for _, object := range candidates {
		selected := selector.Matches(labels.Set(object.GetLabels()))
		controller := metav1.GetControllerOfNoCopy(object)
		switch {
		case controller != nil && controller.UID != owner.GetUID():
		case controller != nil && selected:
			c.mine = append(c.mine, object)
		case controller != nil && owner.GetDeletionTimestamp() == nil:
			c.release = append(c.release, object)
		case controller == nil && selected && owner.GetDeletionTimestamp() == nil && object.GetDeletionTimestamp() == nil:
			c.adopt = append(c.adopt, object)
		}
	}
	return c
}

// patchFunc patches one object of the owned kind.
type patchFunc func(ctx context.Context, namespace, name string, kind types.PatchType, patch []byte) error

// apply writes adoptions and releases and returns what then belongs to owner. stillThere asks the API
// server itself, not a cache, for the owner: an owner in deletion must not adopt what its deletion has
// just orphaned.
func (c claims[T]) apply(ctx context.Context, owner metav1.Object, kind schema.GroupVersionKind, patch patchFunc,
	stillThere func(context.Context) (metav1.Object, error),
) ([]T, error) {
	mine := c.mine
	var failed []error
	if len(c.adopt) > 0 {
		live, err := stillThere(ctx)
		if err != nil || live.GetUID() != owner.GetUID() || live.GetDeletionTimestamp() != nil {
			return mine, errors.Join(err, fmt.Errorf("adopt for %s: the owner is going away", keyOf(owner)))
		}
	}
	for _, object := range c.adopt {
		reference := metav1.NewControllerRef(owner, kind)
		err := patch(ctx, object.GetNamespace(), object.GetName(), strategicMerge, mustJSON(map[string]any{
			"metadata": map[string]any{"uid": object.GetUID(), "ownerReferences": []any{reference}},
		}))
		switch {
		case err == nil:
			slog.Info("adopted", "owner", keyOf(owner), "kind", kind.Kind, "object", object.GetName())
			mine = append(mine, object)
		case !apierrors.IsNotFound(err):
			failed = append(failed, fmt.Errorf("adopt %s: %w", keyOf(object), err))
		}
	}
	for _, object := range c.release {
		err := patch(ctx, object.GetNamespace(), object.GetName(), strategicMerge, mustJSON(map[string]any{
			"metadata": map[string]any{"uid": object.GetUID(), "ownerReferences": []any{
				map[string]any{"$patch": "delete", "uid": owner.GetUID()},
			}},
		}))
		// 404: it is gone. 422: its owner reference is gone already.
		if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) {
			failed = append(failed, fmt.Errorf("release %s: %w", keyOf(object), err))
		}
		slog.Info("released", "owner", keyOf(owner), "kind", kind.Kind, "object", object.GetName())
	}
	return mine, errors.Join(failed...)
}
