package resource

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// StatefulSet keeps pods with names that last: db-0, db-1, db-2.
var StatefulSet = &Kind{
	GroupVersion: appsv1.SchemeGroupVersion,
	Kind:         "StatefulSet", Plural: "statefulsets", Singular: "statefulset",
	ShortNames: []string{"sts"}, Categories: []string{"all"}, Namespaced: true, Prefix: "/registry/statefulsets/",
	New:      func() Object { return &appsv1.StatefulSet{} },
	NewList:  func() runtime.Object { return &appsv1.StatefulSetList{} },
	NameRule: apivalidation.NameIsDNSLabel, // of which the pods' hostnames are made
	Default:  on(defaultStatefulSet),
	Warn:     warnBoth(warnStatefulSet),
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
	errs := validateStatefulSetSpec(s)
	if old != nil {
		errs = append(errs, validateStatefulSetChange(s, old)...)
	} else if name := s.Spec.ServiceName; name != "" {
		errs = append(errs, each(specPath.Child("serviceName"), name, validation.IsDNS1123Label(name))...)
	}
	return errs
}

func validateStatefulSetSpec(s *appsv1.StatefulSet) field.ErrorList {
	var errs field.ErrorList
	switch policy := s.Spec.PodManagementPolicy; policy {
	case appsv1.OrderedReadyPodManagement, appsv1.ParallelPodManagement:
	default:
		errs = append(errs, field.Invalid(specPath.Child("podManagementPolicy"), policy, "must be 'OrderedReady' or 'Parallel'"))
	}
	errs = append(errs, validateStatefulSetStrategy(&s.Spec.UpdateStrategy)...)
	if p, at := s.Spec.PersistentVolumeClaimRetentionPolicy, specPath.Child("persistentVolumeClaimRetentionPolicy"); p != nil {
		const retain, remove = appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType
		errs = append(errs, oneOf(&p.WhenDeleted, at.Child("whenDeleted"), retain, remove)...)
		errs = append(errs, oneOf(&p.WhenScaled, at.Child("whenScaled"), retain, remove)...)
	}
	errs = append(errs, validateReplicas(s.Spec.Replicas)...)
	errs = append(errs, notNegative(int64(s.Spec.MinReadySeconds), specPath.Child("minReadySeconds"))...)
	if o := s.Spec.Ordinals; o != nil {
		errs = append(errs, notNegative(int64(o.Start), specPath.Child("ordinals.start"))...)
	}
	errs = append(errs, validateWorkloadSelector("statefulset", s.Spec.Selector)...)
	return append(errs, validateStatefulSetTemplate(s)...)
}

// validateStatefulSetTemplate leaves out what the controller fills in for each
// pod: hostname, subdomain, and the volumes of its claims.
func validateStatefulSetTemplate(s *appsv1.StatefulSet) field.ErrorList {
	selector, err := metav1.LabelSelectorAsSelector(s.Spec.Selector)
	if err != nil {
		return append(field.ErrorList{field.Invalid(specPath.Child("selector"), s.Spec.Selector, "")}, validateLasting("StatefulSet", &s.Spec.Template)...)
	}
	var errs field.ErrorList
	if !selector.Empty() && !selector.Matches(labels.Set(s.Spec.Template.Labels)) {
		errs = append(errs, field.Invalid(templatePath.Child("metadata", "labels"), s.Spec.Template.Labels, "`selector` does not match template `labels`"))
	}
	t := s.Spec.Template.DeepCopy()
	t.Spec.Hostname, t.Spec.Subdomain = "", ""
	for _, claim := range s.Spec.VolumeClaimTemplates {
		t.Spec.Volumes = slices.DeleteFunc(t.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == claim.Name })
		t.Spec.Volumes = append(t.Spec.Volumes, corev1.Volume{Name: claim.Name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim.Name},
		}})
	}
	errs = append(errs, validatePodTemplate(t)...)
	errs = append(errs, validateTemplateMeta(t)...) // told twice, as upstream does
	return append(errs, validateLasting("StatefulSet", t)...)
}

func validateStatefulSetStrategy(s *appsv1.StatefulSetUpdateStrategy) field.ErrorList {
	path := specPath.Child("updateStrategy")
	switch s.Type {
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			return field.ErrorList{field.Invalid(path.Child("rollingUpdate"), internalForm{s.RollingUpdate}, fmt.Sprintf("only allowed for updateStrategy '%s'", appsv1.RollingUpdateStatefulSetStrategyType))}
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		if s.RollingUpdate != nil && s.RollingUpdate.Partition != nil {
			return notNegative(int64(*s.RollingUpdate.Partition), path.Child("rollingUpdate", "partition"))
		}
	default:
		return field.ErrorList{field.Invalid(path, internalForm{s}, fmt.Sprintf("must be '%s' or '%s'", appsv1.RollingUpdateStatefulSetStrategyType, appsv1.OnDeleteStatefulSetStrategyType))}
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
