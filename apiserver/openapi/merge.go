package openapi

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/applyconfigurations"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"

	"github.com/podarium/podarium/apiserver/resource"
)

// mergeRules are the schemas by which server-side apply merges: which lists are
// sets, which are maps and by which keys. The Go types say it only in comments;
// client-go carries it as data, under the same names of types.
func mergeRules() *smd.Schema {
	pod := &corev1.Pod{}
	pod.SetGroupVersionKind(resource.Pod.GVK())
	typed, err := applyconfigurations.NewTypeConverter(resource.NewScheme()).ObjectToTyped(pod)
	if err != nil {
		return &smd.Schema{}
	}
	return typed.Schema()
}

// addMergeRules tells clients how the fields of a type are merged:
//
//	ports:  x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [port, protocol]
func (s *schemas) addMergeRules(def *Schema, name string) {
	rules, ok := s.rules.FindNamedType(name)
	if !ok || rules.Map == nil {
		return
	}
	if rules.Map.ElementRelationship == smd.Atomic {
		def.MapType = "atomic"
	}
	for _, f := range rules.Map.Fields {
		field, ok := def.Properties[f.Name]
		if !ok {
			continue
		}
		if list := f.Type.Inlined.List; list != nil {
			field.ListType, field.ListKeys = listType(list), list.Keys
		}
		if m := f.Type.Inlined.Map; m != nil && m.ElementRelationship == smd.Atomic {
			field.MapType = "atomic"
		}
	}
}

func listType(list *smd.List) string {
	switch {
	case list.ElementRelationship == smd.Atomic:
		return "atomic"
	case len(list.Keys) > 0:
		return "map"
	}
	return "set"
}
