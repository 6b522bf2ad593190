package apiserver

import (
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"github.com/podarium/podarium/apiserver/resource"
)

// A Scale is not stored, so nobody owns its fields: they are those of the
// workload. Who applies a Scale is compared with the owners of the workload's
// spec.replicas, and is one of them afterwards:
//
//	Deployment web   bot    Apply                    f:spec: {f:replicas: {}, f:template: …}
//	its Scale        bot    Apply                    f:spec: {f:replicas: {}}
//	                 scaler Apply subresource: scale f:spec: {f:replicas: {}}   conflict with bot

// scaleOnly describes Scale to those who merge. It is no resource of its own.
var scaleOnly = &resource.Kind{
	GroupVersion: autoscalingv1.SchemeGroupVersion, Kind: "Scale", Namespaced: true,
	New: func() resource.Object { return &autoscalingv1.Scale{} },
}

// scaleOwners sees the owners of a workload's fields as those of its Scale.
func scaleOwners(kind *resource.Kind, obj resource.Object) *managedfields.ScaleHandler {
	replicas := fieldpath.MakePathOrDie("spec", "replicas")
	return managedfields.NewScaleHandler(obj.GetManagedFields(), kind.GroupVersion,
		managedfields.ResourcePathMappings{kind.GroupVersion.String(): replicas})
}

// appliedScale makes, of an apply patch, a function from the current workload
// to the wanted Scale.
func (s *Server) appliedScale(r *request, o writeOptions, body []byte) (func(current resource.Object) (*autoscalingv1.Scale, error), error) {
	if o.fieldManager == "" {
		return nil, invalidOptions("PatchOptions", field.Required(field.NewPath("fieldManager"), "is required for apply patch"))
	}
	wanted, err := decodeApplied(body)
	if err != nil {
		return nil, err
	}
	manager, err := s.managers.of(scaleOnly, r.subresource)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	return func(current resource.Object) (*autoscalingv1.Scale, error) {
		scale := scaleOf(current)
		if scale.ManagedFields, err = scaleOwners(r.kind, current).ToSubresource(); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
		merged, err := manager.Apply(scale, wanted.DeepCopy(), o.fieldManager, o.force)
		if err != nil {
			return nil, err
		}
		next, err := asKind(scaleOnly, merged)
		if err != nil {
			return nil, err
		}
		return next.(*autoscalingv1.Scale), checkPath(next, r.target, scaleOnly)
	}, nil
}
