package controllers

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/utils/dump"
)

// Annotations which the Deployment controller leaves on ReplicaSets; kubectl rollout reads the first.
const (
	revisionAnnotation        = "deployment.kubernetes.io/revision"
	revisionHistoryAnnotation = "deployment.kubernetes.io/revision-history"
	desiredReplicasAnnotation = "deployment.kubernetes.io/desired-replicas" // spec.replicas of the Deployment
	maxReplicasAnnotation     = "deployment.kubernetes.io/max-replicas"     // that plus maxSurge
)

// notCopied are annotations of a Deployment which say nothing about the version it runs.
var notCopied = []string{
	corev1.LastAppliedConfigAnnotation, revisionAnnotation, revisionHistoryAnnotation,
	desiredReplicasAnnotation, maxReplicasAnnotation, appsv1.DeprecatedRollbackTo,
}

// findNewReplicaSet returns the ReplicaSet which has the Deployment's present template, or nil. Templates
// are compared as a whole, not by hash: an API server of a later version may fill in a new default, and
// the hash of what is the same template would be another one.
func findNewReplicaSet(deployment *appsv1.Deployment, sets []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	for _, rs := range oldestFirst(sets) {
		template := rs.Spec.Template.DeepCopy()
		delete(template.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		wanted := deployment.Spec.Template.DeepCopy()
		delete(wanted.Labels, appsv1.DefaultDeploymentUniqueLabelKey)
		if equality.Semantic.DeepEqual(template, wanted) {
			return rs
		}
	}
	return nil
}

// splitReplicaSets separates the present version from all others.
func splitReplicaSets(deployment *appsv1.Deployment, sets []*appsv1.ReplicaSet) (current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) {
	current = findNewReplicaSet(deployment, sets)
	for _, rs := range sets {
		if current == nil || rs.UID != current.UID {
			old = append(old, rs)
		}
	}
	return current, old
}

func oldestFirst(sets []*appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	return slices.SortedFunc(slices.Values(sets), func(a, b *appsv1.ReplicaSet) int {
		if byTime := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); byTime != 0 {
			return byTime
		}
		return strings.Compare(a.Name, b.Name)
	})
}

func withCurrent(old []*appsv1.ReplicaSet, current *appsv1.ReplicaSet) []*appsv1.ReplicaSet {
	all := slices.Clone(old)
	if current != nil {
		all = append(all, current)
	}
	return all
}

// templateHash makes the suffix of a ReplicaSet's name and its label pod-template-hash, which keeps the
// pods of two versions apart. collisions is mixed in when two templates happen to share a hash.
func templateHash(template *corev1.PodTemplateSpec, collisions *int32) string {
	hash := fnv.New32a()
	fmt.Fprintf(hash, "%v", dump.ForHash(*template))
	if collisions != nil {
		var salt [8]byte
		for i := range 4 {
			salt[i] = byte(*collisions >> (8 * i))
		}
		hash.Write(salt[:])
	}
	return rand.SafeEncodeString(fmt.Sprint(hash.Sum32()))
}

// nextRevision is one more than the highest of the other versions, so a rolled back version gets a new
// number and is the latest again.
func nextRevision(old []*appsv1.ReplicaSet) int64 {
	var highest int64
	for _, rs := range old {
		highest = max(highest, revision(rs))
	}
	return highest + 1
}

func revision(object metav1.Object) int64 {
	n, _ := strconv.ParseInt(object.GetAnnotations()[revisionAnnotation], 10, 64)
	return n
}

// annotateCurrent returns the annotations which the present version's ReplicaSet should have: those of the
// Deployment (kubernetes.io/change-cause among them), the revision, and the revisions it was before.
func annotateCurrent(deployment *appsv1.Deployment, rs *appsv1.ReplicaSet, next int64) map[string]string {
	annotations := maps.Clone(rs.Annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	for key, value := range deployment.Annotations {
		if !slices.Contains(notCopied, key) {
			annotations[key] = value
		}
	}
	if before := revision(rs); before < next {
		annotations[revisionAnnotation] = strconv.FormatInt(next, 10)
		if before > 0 {
			history := strings.Split(annotations[revisionHistoryAnnotation], ",")
			history = slices.DeleteFunc(append(history, strconv.FormatInt(before, 10)), func(s string) bool { return s == "" })
			// An annotation of 2000 letters at most, as upstream limits it.
			for len(strings.Join(history, ",")) > 2000 {
				history = history[1:]
			}
			annotations[revisionHistoryAnnotation] = strings.Join(history, ",")
		}
	}
	return annotations
}

// setReplicaAnnotations notes on a ReplicaSet of which size of the Deployment its own size is a part;
// proportional scaling needs it.
func setReplicaAnnotations(rs *appsv1.ReplicaSet, deployment *appsv1.Deployment) {
	if rs.Annotations == nil {
		rs.Annotations = map[string]string{}
	}
	surge, _ := surgeAndUnavailable(deployment)
	rs.Annotations[desiredReplicasAnnotation] = strconv.Itoa(int(*deployment.Spec.Replicas))
	rs.Annotations[maxReplicasAnnotation] = strconv.Itoa(int(*deployment.Spec.Replicas + surge))
}

// ensureCurrent returns the ReplicaSet of the present template, created or brought up to date.
func (d *deploymentController) ensureCurrent(ctx context.Context, deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	if current != nil {
		return d.refreshCurrent(ctx, deployment, current, old)
	}
	wanted := newReplicaSet(deployment, old)
	created, err := d.client.AppsV1().ReplicaSets(deployment.Namespace).Create(ctx, wanted, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err):
		if created, err = d.resolveCollision(ctx, deployment, wanted); err != nil {
			return nil, err
		}
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil, nil
	case err != nil:
		d.noteCreateError(ctx, deployment, wanted, err)
		return nil, fmt.Errorf("create replica set %s: %w", wanted.Name, err)
	default:
		slog.Info("created replica set", "deployment", keyOf(deployment), "replicaset", created.Name, "replicas", *created.Spec.Replicas)
		if *created.Spec.Replicas > 0 {
			d.events.Eventf(deployment, corev1.EventTypeNormal, "ScalingReplicaSet", "Scaled up replica set %s from 0 to %d", created.Name, *created.Spec.Replicas)
		}
	}
	note := progressing(corev1.ConditionTrue, "NewReplicaSetCreated", fmt.Sprintf("Created new replica set %q", created.Name), time.Now())
	return created, d.writeRevision(ctx, deployment, created, note)
}

// newReplicaSet is the object for a new version of the template.
func newReplicaSet(deployment *appsv1.Deployment, old []*appsv1.ReplicaSet) *appsv1.ReplicaSet {
	template := deployment.Spec.Template.DeepCopy()
	hash := templateHash(template, deployment.Status.CollisionCount)
	if template.Labels == nil {
		template.Labels = map[string]string{}
	}
	template.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	selector := deployment.Spec.Selector.DeepCopy()
	if selector.MatchLabels == nil {
		selector.MatchLabels = map[string]string{}
	}
	selector.MatchLabels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
	rs := &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: deployment.Namespace, Name: deployment.Name + "-" + hash, Labels: template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(deployment, deploymentKind)},
		},
		Spec: appsv1.ReplicaSetSpec{
			Replicas: new(int32(0)), MinReadySeconds: deployment.Spec.MinReadySeconds, Selector: selector, Template: *template,
		},
	}
	*rs.Spec.Replicas = replicasOfCurrent(deployment, rs, old)
	rs.Annotations = annotateCurrent(deployment, rs, nextRevision(old))
	setReplicaAnnotations(rs, deployment)
	return rs
}

// resolveCollision looks at the ReplicaSet which has the name already. It is ours, and our cache is late;
// or it is another template with the same hash: then the next try hashes with a count of collisions.
func (d *deploymentController) resolveCollision(ctx context.Context, deployment *appsv1.Deployment, wanted *appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	present, err := d.client.AppsV1().ReplicaSets(wanted.Namespace).Get(ctx, wanted.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get replica set %s: %w", wanted.Name, err)
	}
	if metav1.IsControlledBy(present, deployment) && findNewReplicaSet(deployment, []*appsv1.ReplicaSet{present}) != nil {
		return present, nil
	}
	before := int32(0)
	if deployment.Status.CollisionCount != nil {
		before = *deployment.Status.CollisionCount
	}
	deployment.Status.CollisionCount = new(before + 1)
	if _, err := d.client.AppsV1().Deployments(deployment.Namespace).UpdateStatus(ctx, deployment, metav1.UpdateOptions{}); err != nil {
		return nil, fmt.Errorf("count hash collision of deployment %s: %w", keyOf(deployment), err)
	}
	return nil, fmt.Errorf("replica set name %s is taken by another template, counted as collision %d", wanted.Name, before+1)
}

func (d *deploymentController) noteCreateError(ctx context.Context, deployment *appsv1.Deployment, rs *appsv1.ReplicaSet, cause error) {
	message := fmt.Sprintf("Failed to create new replica set %q: %v", rs.Name, cause)
	d.events.Event(deployment, corev1.EventTypeWarning, "ReplicaSetCreateError", message)
	if !hasDeadline(deployment) {
		return
	}
	setDeploymentCondition(&deployment.Status, progressing(corev1.ConditionFalse, "ReplicaSetCreateError", message, time.Now()))
	if _, err := d.client.AppsV1().Deployments(deployment.Namespace).UpdateStatus(ctx, deployment, metav1.UpdateOptions{}); err != nil {
		slog.Debug("write status of deployment", "deployment", keyOf(deployment), "err", err)
	}
}

// refreshCurrent brings revision, annotations and minReadySeconds of the present version up to date.
func (d *deploymentController) refreshCurrent(ctx context.Context, deployment *appsv1.Deployment, current *appsv1.ReplicaSet, old []*appsv1.ReplicaSet) (*appsv1.ReplicaSet, error) {
	changed := current.DeepCopy()
	changed.Annotations = annotateCurrent(deployment, current, nextRevision(old))
	changed.Spec.MinReadySeconds = deployment.Spec.MinReadySeconds
	if !equality.Semantic.DeepEqual(changed, current) {
		written, err := d.client.AppsV1().ReplicaSets(changed.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
		if err != nil {
			return nil, fmt.Errorf("update replica set %s: %w", changed.Name, err)
		}
		current = written
	}
	note := progressing(corev1.ConditionTrue, "FoundNewReplicaSet", fmt.Sprintf("Found new replica set %q", current.Name), time.Now())
	if deploymentCondition(&deployment.Status, appsv1.DeploymentProgressing) != nil {
		return current, d.writeRevision(ctx, deployment, current)
	}
	return current, d.writeRevision(ctx, deployment, current, note)
}

// writeRevision copies the revision to the Deployment's own annotations, when it is not there. Conditions
// are set in memory; they are written with the status at the end of the pass.
func (d *deploymentController) writeRevision(ctx context.Context, deployment *appsv1.Deployment, current *appsv1.ReplicaSet, notes ...appsv1.DeploymentCondition) error {
	if deployment.Annotations[revisionAnnotation] != current.Annotations[revisionAnnotation] {
		patch := mustJSON(map[string]any{"metadata": map[string]any{
			"uid": deployment.UID, "annotations": map[string]string{revisionAnnotation: current.Annotations[revisionAnnotation]},
		}})
		written, err := d.client.AppsV1().Deployments(deployment.Namespace).Patch(ctx, deployment.Name, merge, patch, metav1.PatchOptions{})
		if err != nil {
			return fmt.Errorf("write revision of deployment %s: %w", keyOf(deployment), err)
		}
		deployment.Annotations, deployment.ResourceVersion = written.Annotations, written.ResourceVersion
	}
	if !hasDeadline(deployment) {
		return nil
	}
	for _, note := range notes {
		setDeploymentCondition(&deployment.Status, note)
	}
	return nil
}
