package controllers

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
)

// A Deployment keeps its old versions as ReplicaSets of size zero. DaemonSets and StatefulSets have no
// ReplicaSets; their versions are ControllerRevisions, objects which hold nothing but the pod template in
// the form of a patch, ready to be applied by `kubectl rollout undo`:
//
//	web-7c5ddbdf54  revision 1  {"spec":{"template":{…,"$patch":"replace"}}}
//	web-6b8d8c9f7b  revision 2
//
// A pod's label controller-revision-hash tells which version it is of.
type revisions struct {
	client kubernetes.Interface
	lister appslisters.ControllerRevisionLister
	kind   schema.GroupVersionKind
}

func newRevisions(c *cluster, kind schema.GroupVersionKind) *revisions {
	return &revisions{client: c.client, lister: c.informers.Apps().V1().ControllerRevisions().Lister(), kind: kind}
}

// of returns the owner's revisions, oldest first.
func (r *revisions) of(owner metav1.Object) []*appsv1.ControllerRevision {
	all, _ := r.lister.ControllerRevisions(owner.GetNamespace()).List(everything)
	own := slices.DeleteFunc(slices.Clone(all), func(rev *appsv1.ControllerRevision) bool { return !metav1.IsControlledBy(rev, owner) })
	slices.SortFunc(own, func(a, b *appsv1.ControllerRevision) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Name, b.Name))
	})
	return own
}

// ensure returns the revision of the template, which is made when there is none, and made the newest when
// it is an old one (a roll-back).
func (r *revisions) ensure(ctx context.Context, owner metav1.Object, template *corev1.PodTemplateSpec, known []*appsv1.ControllerRevision) (*appsv1.ControllerRevision, error) {
	data, err := templatePatch(template)
	if err != nil {
		return nil, err
	}
	newest := int64(0)
	var same *appsv1.ControllerRevision
	for _, rev := range known {
		newest = rev.Revision
		if bytes.Equal(canonical(rev.Data.Raw), data) {
			same = rev
		}
	}
	api := r.client.AppsV1().ControllerRevisions(owner.GetNamespace())
	switch {
	case same != nil && same.Revision == newest:
		return same, nil
	case same != nil:
		changed := same.DeepCopy()
		changed.Revision = newest + 1
		return api.Update(ctx, changed, metav1.UpdateOptions{})
	}
	return r.create(ctx, owner, template, data, newest+1)
}

// create makes a revision. Its name holds a hash of its content; when another content happens to have the
// same hash, a salt is mixed in.
func (r *revisions) create(ctx context.Context, owner metav1.Object, template *corev1.PodTemplateSpec, data []byte, number int64) (*appsv1.ControllerRevision, error) {
	api := r.client.AppsV1().ControllerRevisions(owner.GetNamespace())
	for salt := range 10 {
		hash := revisionHash(data, salt)
		labels := map[string]string{appsv1.ControllerRevisionHashLabelKey: hash}
		maps.Copy(labels, template.Labels)
		rev := &appsv1.ControllerRevision{
			ObjectMeta: metav1.ObjectMeta{
				Name: owner.GetName() + "-" + hash, Labels: labels, Annotations: owner.GetAnnotations(),
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, r.kind)},
			},
			Data: runtime.RawExtension{Raw: data}, Revision: number,
		}
		made, err := api.Create(ctx, rev, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			return made, err
		}
		// Most likely we made it a moment ago, and the cache does not show it yet.
		there, err := api.Get(ctx, rev.Name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if bytes.Equal(canonical(there.Data.Raw), data) && metav1.IsControlledBy(there, owner) {
			return there, nil
		}
	}
	return nil, fmt.Errorf("name a revision of %s: all names are taken", keyOf(owner))
}

// prune deletes the oldest revisions of which no pod is, beyond the limit.
func (r *revisions) prune(ctx context.Context, known []*appsv1.ControllerRevision, limit *int32, inUse func(*appsv1.ControllerRevision) bool) error {
	unused := slices.DeleteFunc(slices.Clone(known), inUse)
	for _, rev := range unused[:max(0, len(unused)-int(*limit))] {
		err := r.client.AppsV1().ControllerRevisions(rev.Namespace).Delete(ctx, rev.Name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete revision %s: %w", keyOf(rev), err)
		}
	}
	return nil
}

func revisionHash(data []byte, salt int) string {
	hash := fnv.New32a()
	hash.Write(data)
	if salt > 0 {
		fmt.Fprint(hash, salt)
	}
	return rand.SafeEncodeString(fmt.Sprint(hash.Sum32()))
}

// templatePatch is the template as a strategic merge patch which replaces the whole of it.
func templatePatch(template *corev1.PodTemplateSpec) ([]byte, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(template)
	if err != nil {
		return nil, fmt.Errorf("encode pod template: %w", err)
	}
	fields["$patch"] = "replace"
	return json.Marshal(map[string]any{"spec": map[string]any{"template": fields}})
}

// canonical sorts the keys of a JSON text, so that two texts of the same content are equal.
func canonical(text []byte) []byte {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return text
	}
	return mustJSON(value)
}

// templateOf reads the template back.
func templateOf(rev *appsv1.ControllerRevision) (*corev1.PodTemplateSpec, error) {
	var content struct {
		Spec struct{ Template corev1.PodTemplateSpec }
	}
	if err := json.Unmarshal(rev.Data.Raw, &content); err != nil {
		return nil, fmt.Errorf("read revision %s: %w", keyOf(rev), err)
	}
	return &content.Spec.Template, nil
}
