package resource

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// StatefulSet keeps pods with names that last: db-0, db-1, db-2.
var StatefulSet = &Kind{
	GroupVersion: appsv1.SchemeGroupVersion,
	Kind:         "StatefulSet", Plural: "statefulsets", Singular: "statefulset",
	ShortNames: []string{"sts"}, Categories: []string{"all"}, Namespaced: true, Prefix: "/registry/statefulsets/",
	New:      func() Object { return &appsv1.StatefulSet{} },
	NewList:  func() runtime.Object { return &appsv1.StatefulSetList{} },
	Default:  on(defaultStatefulSet),
	Warn:     warn(warnStatefulSet),
	Validate: check(validateStatefulSet),
	Status:   true, Generation: true, Subresources: []Subresource{scale},
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Ready", "string"), column("Age", "string"), wide("Containers", "string"), wide("Images", "string"),
	},
	Row: row(func(s *appsv1.StatefulSet, now time.Time) []any {
		names, images := containers(s.Spec.Template.Spec)
		return []any{s.Name, fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, count(s.Spec.Replicas)), created(s, now), names, images}
	}),
}

func defaultStatefulSet(s *appsv1.StatefulSet) {
	setPtr(&s.Spec.Replicas, 1)
	setPtr(&s.Spec.RevisionHistoryLimit, 10)
	set(&s.Spec.PodManagementPolicy, appsv1.OrderedReadyPodManagement)
	set(&s.Spec.UpdateStrategy.Type, appsv1.RollingUpdateStatefulSetStrategyType)
	if s.Spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		setPtr(&s.Spec.UpdateStrategy.RollingUpdate, appsv1.RollingUpdateStatefulSetStrategy{})
		setPtr(&s.Spec.UpdateStrategy.RollingUpdate.Partition, 0)
	}
	setPtr(&s.Spec.PersistentVolumeClaimRetentionPolicy, appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{})
	set(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenDeleted, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	set(&s.Spec.PersistentVolumeClaimRetentionPolicy.WhenScaled, appsv1.RetainPersistentVolumeClaimRetentionPolicyType)
	for i := range s.Spec.VolumeClaimTemplates {
		claim := &s.Spec.VolumeClaimTemplates[i]
		claim.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
		setPtr(&claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem)
		set(&claim.Status.Phase, corev1.ClaimPending)
	}
	defaultPodSpec(&s.Spec.Template.Spec)
}

func validateStatefulSet(s, old *appsv1.StatefulSet) field.ErrorList {
	errs := validateReplicas(s.Spec.Replicas)
	switch policy := s.Spec.PodManagementPolicy; policy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		errs = append(errs, field.Invalid(specPath.Child("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'"))
	}
	errs = append(errs, validateStatefulSetStrategy(&s.Spec.UpdateStrategy)...)
	errs = append(errs, notNegative(int64(s.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	if o := s.Spec.Ordinals; o != nil {
		errs = append(errs, notNegative(int64(o.Start), specPath.Child("ordinals", "start"))...)
	}
	errs = append(errs, validateTemplate("statefulset", s.Spec.Selector, &s.Spec.Template)...)
	if t := s.Spec.Template.Spec.ActiveDeadlineSeconds; t != nil {
		errs = append(errs, field.Forbidden(specPath.Child("template", "spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in StatefulSet is not Supported"))
	}
	if old != nil {
		errs = append(errs, validateStatefulSetChange(s, old)...)
	}
	return errs
}

func validateStatefulSetStrategy(s *appsv1.StatefulSetUpdateStrategy) field.ErrorList {
	path := specPath.Child("updateStrategy")
	switch s.Type {
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(path.Child("rollingUpdate"), s.RollingUpdate, fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if s.RollingUpdate != nil && s.RollingUpdate.Partition != nil {
			return notNegative(int64(*s.RollingUpdate.Partition), path.Child("rollingUpdate", "partition"))
		}
	default:
		return field.ErrorList{field.Invalid(path, s, fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
	}
	return nil
}

// validateStatefulSetChange: what the pods' identity hangs on stays.
func validateStatefulSetChange(s, old *appsv1.StatefulSet) field.ErrorList {
	same := s.Spec.DeepCopy()
	same.Replicas, same.Template, same.UpdateStrategy, same.MinReadySeconds = old.Spec.Replicas, old.Spec.Template, old.Spec.UpdateStrategy, old.Spec.MinReadySeconds
	same.Ordinals, same.RevisionHistoryLimit = old.Spec.Ordinals, old.Spec.RevisionHistoryLimit
	same.PersistentVolumeClaimRetentionPolicy = old.Spec.PersistentVolumeClaimRetentionPolicy
	if equality.Semantic.DeepEqual(same, &old.Spec) {
		return nil
	}
	return field.ErrorList{field.Forbidden(specPath, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden")}
}
