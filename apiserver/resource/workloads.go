package resource

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var scale = Subresource{Name: "scale", Kind: "Scale", GroupVersion: schema.GroupVersion{Group: "autoscaling", Version: "v1"}, Verbs: []string{"get", "patch", "update"}}

var replicaColumns = []metav1.TableColumnDefinition{
	column("Name", "string"), column("Desired", "integer"), column("Current", "integer"), column("Ready", "integer"), column("Age", "string"),
	wide("Containers", "string"), wide("Images", "string"), wide("Selector", "string"),
}

// ReplicationController keeps a number of equal pods, chosen by plain labels.
// ReplicaSet is its successor.
var ReplicationController = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "ReplicationController", Plural: "replicationcontrollers", Singular: "replicationcontroller",
	ShortNames: []string{"rc"}, Categories: []string{"all"}, Namespaced: true, Prefix: "/registry/controllers/",
	New:      func() Object { return &corev1.ReplicationController{} },
	NewList:  func() runtime.Object { return &corev1.ReplicationControllerList{} },
	Default:  on(defaultReplicationController),
	Warn:     warnBoth(warnReplicationController),
	Validate: check(validateReplicationController),
	Fields: selectable(func(r *corev1.ReplicationController) fields.Set {
		return fields.Set{"status.replicas": strconv.Itoa(int(r.Status.Replicas))}
	}),
	Status: true, Generation: true, Subresources: []Subresource{scale}, OrphanByDefault: true,
	Columns: replicaColumns,
	Row: row(func(r *corev1.ReplicationController, now time.Time) []any {
		var names, images string
		if r.Spec.Template != nil {
			names, images = containers(r.Spec.Template.Spec)
		}
		return []any{r.Name, count(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), created(r, now), names, images, labelsText(r.Spec.Selector)}
	}),
}

// defaultReplicationController takes selector and labels from the template's
// labels, as the API of old allowed.
func defaultReplicationController(r *corev1.ReplicationController) {
	setPtr(&r.Spec.Replicas, 1)
	t := r.Spec.Template
	if t == nil {
		return
	}
	if len(t.Labels) > 0 {
		if len(r.Spec.Selector) == 0 {
			r.Spec.Selector = t.Labels
		}
		if len(r.Labels) == 0 {
			r.Labels = t.Labels
		}
	}
	defaultPodSpec(&t.Spec)
}

// ReplicaSet keeps a number of equal pods.
var ReplicaSet = &Kind{
	GroupVersion: appsv1.SchemeGroupVersion,
	Kind:         "ReplicaSet", Plural: "replicasets", Singular: "replicaset",
	ShortNames: []string{"rs"}, Categories: []string{"all"}, Namespaced: true, Prefix: "/registry/replicasets/",
	New:     func() Object { return &appsv1.ReplicaSet{} },
	NewList: func() runtime.Object { return &appsv1.ReplicaSetList{} },
	Default: on(func(r *appsv1.ReplicaSet) {
		setPtr(&r.Spec.Replicas, 1)
		defaultPodSpec(&r.Spec.Template.Spec)
	}),
	Warn:     warnBoth(warnReplicaSet),
	Validate: check(validateReplicaSet),
	Status:   true, Generation: true, Subresources: []Subresource{scale},
	Columns: replicaColumns,
	Row: row(func(r *appsv1.ReplicaSet, now time.Time) []any {
		names, images := containers(r.Spec.Template.Spec)
		return []any{r.Name, count(r.Spec.Replicas), int64(r.Status.Replicas), int64(r.Status.ReadyReplicas), created(r, now), names, images, selectorText(r.Spec.Selector)}
	}),
}

// Deployment rolls ReplicaSets: one for each version of its template.
var Deployment = &Kind{
	GroupVersion: appsv1.SchemeGroupVersion,
	Kind:         "Deployment", Plural: "deployments", Singular: "deployment",
	ShortNames: []string{"deploy"}, Categories: []string{"all"}, Namespaced: true, Prefix: "/registry/deployments/",
	New:      func() Object { return &appsv1.Deployment{} },
	NewList:  func() runtime.Object { return &appsv1.DeploymentList{} },
	Default:  on(defaultDeployment),
	Prepare:  onBoth(prepareDeployment),
	Warn:     warnBoth(warnDeployment),
	Validate: check(validateDeployment),
	Status:   true, Generation: true, Subresources: []Subresource{scale},
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Ready", "string"), column("Up-to-date", "string"), column("Available", "string"), column("Age", "string"),
		wide("Containers", "string"), wide("Images", "string"), wide("Selector", "string"),
	},
	Row: row(func(d *appsv1.Deployment, now time.Time) []any {
		names, images := containers(d.Spec.Template.Spec)
		return []any{
			d.Name, fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, count(d.Spec.Replicas)), int64(d.Status.UpdatedReplicas), int64(d.Status.AvailableReplicas),
			created(d, now), names, images, selectorText(d.Spec.Selector),
		}
	}),
}

func defaultDeployment(d *appsv1.Deployment) {
	setPtr(&d.Spec.Replicas, 1)
	setPtr(&d.Spec.RevisionHistoryLimit, 10)
	setPtr(&d.Spec.ProgressDeadlineSeconds, 600)
	strategy := &d.Spec.Strategy
	set(&strategy.Type, appsv1.RollingUpdateDeploymentStrategyType)
	if strategy.Type == appsv1.RollingUpdateDeploymentStrategyType {
		setPtr(&strategy.RollingUpdate, appsv1.RollingUpdateDeployment{})
		setPtr(&strategy.RollingUpdate.MaxUnavailable, intstr.FromString("25%"))
		setPtr(&strategy.RollingUpdate.MaxSurge, intstr.FromString("25%"))
	}
	defaultPodSpec(&d.Spec.Template.Spec)
}

// prepareDeployment counts changed annotations as a change of the specification:
// the controller copies them to the ReplicaSets.
func prepareDeployment(d, old *appsv1.Deployment) {
	if old != nil && !equality.Semantic.DeepEqual(d.Annotations, old.Annotations) {
		d.Generation = old.Generation + 1
	}
}

// DaemonSet runs one pod on every node that fits.
var DaemonSet = &Kind{
	GroupVersion: appsv1.SchemeGroupVersion,
	Kind:         "DaemonSet", Plural: "daemonsets", Singular: "daemonset",
	ShortNames: []string{"ds"}, Categories: []string{"all"}, Namespaced: true, Prefix: "/registry/daemonsets/",
	New:      func() Object { return &appsv1.DaemonSet{} },
	NewList:  func() runtime.Object { return &appsv1.DaemonSetList{} },
	Default:  on(defaultDaemonSet),
	Prepare:  onBoth(prepareDaemonSet),
	Warn:     warnBoth(warnDaemonSet),
	Validate: check(validateDaemonSet),
	Status:   true, Generation: true,
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Desired", "integer"), column("Current", "integer"), column("Ready", "integer"),
		column("Up-to-date", "integer"), column("Available", "integer"), column("Node Selector", "string"), column("Age", "string"),
		wide("Containers", "string"), wide("Images", "string"), wide("Selector", "string"),
	},
	Row: row(func(d *appsv1.DaemonSet, now time.Time) []any {
		names, images := containers(d.Spec.Template.Spec)
		return []any{
			d.Name, int64(d.Status.DesiredNumberScheduled), int64(d.Status.CurrentNumberScheduled), int64(d.Status.NumberReady),
			int64(d.Status.UpdatedNumberScheduled), int64(d.Status.NumberAvailable), labelsText(d.Spec.Template.Spec.NodeSelector), created(d, now),
			names, images, selectorText(d.Spec.Selector),
		}
	}),
}

func defaultDaemonSet(d *appsv1.DaemonSet) {
	setPtr(&d.Spec.RevisionHistoryLimit, 10)
	set(&d.Spec.UpdateStrategy.Type, appsv1.RollingUpdateDaemonSetStrategyType)
	if d.Spec.UpdateStrategy.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		setPtr(&d.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateDaemonSet{})
		setPtr(&d.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable, intstr.FromInt32(1))
		setPtr(&d.Spec.UpdateStrategy.RollingUpdate.MaxSurge, intstr.FromInt32(0))
	}
	if _, ok := d.Annotations[appsv1.DeprecatedTemplateGeneration]; !ok {
		metav1.SetMetaDataAnnotation(&d.ObjectMeta, appsv1.DeprecatedTemplateGeneration, "0") // prepareDaemonSet counts
	}
	defaultPodSpec(&d.Spec.Template.Spec)
}

// prepareDaemonSet counts the versions of the template, in an annotation that
// the API of old had as a field.
func prepareDaemonSet(d, old *appsv1.DaemonSet) {
	n := int64(1)
	if old != nil {
		n, _ = strconv.ParseInt(old.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
		if !equality.Semantic.DeepEqual(d.Spec.Template, old.Spec.Template) {
			n++
		}
	}
	metav1.SetMetaDataAnnotation(&d.ObjectMeta, appsv1.DeprecatedTemplateGeneration, strconv.FormatInt(n, 10))
}

// ControllerRevision is a snapshot of a workload's template.
var ControllerRevision = &Kind{
	GroupVersion: appsv1.SchemeGroupVersion,
	Kind:         "ControllerRevision", Plural: "controllerrevisions", Singular: "controllerrevision",
	Namespaced: true, Prefix: "/registry/controllerrevisions/",
	New:      func() Object { return &appsv1.ControllerRevision{} },
	NewList:  func() runtime.Object { return &appsv1.ControllerRevisionList{} },
	NameRule: apivalidation.NameIsDNSSubdomain,
	Columns:  []metav1.TableColumnDefinition{column("Name", "string"), column("Controller", "string"), column("Revision", "integer"), column("Age", "string")},
	Row: row(func(r *appsv1.ControllerRevision, now time.Time) []any {
		controller := "<none>"
		if owner := metav1.GetControllerOf(r); owner != nil {
			gv, _ := schema.ParseGroupVersion(owner.APIVersion)
			controller = strings.ToLower(gv.WithKind(owner.Kind).GroupKind().String()) + "/" + owner.Name
		}
		return []any{r.Name, controller, r.Revision, created(r, now)}
	}),
}

func count(replicas *int32) int64 {
	if replicas == nil {
		return 0
	}
	return int64(*replicas)
}
