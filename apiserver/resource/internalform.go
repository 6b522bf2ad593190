package resource

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// internalForm is a value as upstream's errors show it. They come from checks of
// the internal types, whose fields have no names for JSON: {"Type":"RuntimeDefault",
// "LocalhostProfile":null}, and not {"type":"RuntimeDefault"}.
type internalForm struct{ value any }

// movedFields follow another field in the internal type than in v1: the key is
// the field, the value the one before it.
var movedFields = map[string]string{
	"ActiveDeadlineSeconds": "SuccessPolicy",
	"FSGroupChangePolicy":   "FSGroup",
	"Overhead":              "RuntimeClassName",
	"PreemptionPolicy":      "Priority",
	"Quobyte":               "RBD",
	"SetHostnameAsFQDN":     "Subdomain",
}

// plainFields are pointers in v1 only: where nothing is said they show a zero.
var plainFields = map[reflect.Type][]string{
	reflect.TypeFor[appsv1.RollingUpdateDaemonSet]():           {"MaxUnavailable", "MaxSurge"},
	reflect.TypeFor[appsv1.RollingUpdateDeployment]():          {"MaxUnavailable", "MaxSurge"},
	reflect.TypeFor[appsv1.RollingUpdateStatefulSetStrategy](): {"Partition"},
}

// hostFields of a pod's specification are in its security context internally.
var hostFields = []string{"HostNetwork", "HostPID", "HostIPC", "ShareProcessNamespace", "HostUsers"}

// MarshalJSON implements json.Marshaler.
func (f internalForm) MarshalJSON() ([]byte, error) {
	return marshalInternal(reflect.ValueOf(f.value))
}

func marshalInternal(v reflect.Value) ([]byte, error) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			return marshalInternal(v.Elem())
		}
	case reflect.Slice:
		if !v.IsNil() && v.Type().Elem().Kind() != reflect.Uint8 {
			return marshalInternalList(v)
		}
	case reflect.Struct:
		// Quantities, times and all of meta/v1 are the same types inside.
		if strings.HasPrefix(v.Type().PkgPath(), "k8s.io/api/") {
			return marshalInternalStruct(v)
		}
	}
	return json.Marshal(v.Interface())
}

func marshalInternalList(v reflect.Value) ([]byte, error) {
	parts := make([][]byte, v.Len())
	for i := range parts {
		part, err := marshalInternal(v.Index(i))
		if err != nil {
			return nil, err
		}
		parts[i] = part
	}
	return slices.Concat([]byte("["), bytes.Join(parts, []byte(",")), []byte("]")), nil
}

func marshalInternalStruct(v reflect.Value) ([]byte, error) {
	var parts [][]byte
	for _, f := range internalFields(v.Type()) {
		value := v.FieldByIndex(f.Index)
		if slices.Contains(plainFields[v.Type()], f.Name) && value.IsNil() {
			value = reflect.Zero(f.Type.Elem())
		}
		part, err := marshalInternal(value)
		if spec, ok := reflect.TypeAssert[corev1.PodSpec](v); ok && f.Name == "SecurityContext" && spec.SecurityContext != nil {
			part, err = marshalPodSecurity(&spec)
		}
		if err != nil {
			return nil, err
		}
		if !f.Anonymous {
			parts = append(parts, slices.Concat([]byte(`"`+f.Name+`":`), part))
		} else if inner := part[1 : len(part)-1]; len(inner) > 0 {
			parts = append(parts, inner)
		}
	}
	return slices.Concat([]byte("{"), bytes.Join(parts, []byte(",")), []byte("}")), nil
}

// internalFields are the fields in the order of the internal type.
func internalFields(t reflect.Type) []reflect.StructField {
	fields := reflect.VisibleFields(t)
	fields = slices.DeleteFunc(fields, func(f reflect.StructField) bool {
		return len(f.Index) > 1 || t == reflect.TypeFor[corev1.PodSpec]() && (f.Name == "DeprecatedServiceAccount" || slices.Contains(hostFields, f.Name))
	})
	index := func(name string) int {
		return slices.IndexFunc(fields, func(f reflect.StructField) bool { return f.Name == name })
	}
	for name, before := range movedFields {
		from := index(name)
		if from < 0 || index(before) < 0 {
			continue
		}
		moved := fields[from]
		fields = slices.Delete(fields, from, from+1)
		fields = slices.Insert(fields, index(before)+1, moved)
	}
	return fields
}

func marshalPodSecurity(s *corev1.PodSpec) ([]byte, error) {
	own, err := marshalInternal(reflect.ValueOf(s.SecurityContext))
	if err != nil {
		return nil, err
	}
	var host [][]byte
	for _, name := range hostFields {
		value, err := json.Marshal(reflect.ValueOf(s).Elem().FieldByName(name).Interface())
		if err != nil {
			return nil, err
		}
		host = append(host, []byte(`"`+name+`":`+string(value)+","))
	}
	return slices.Concat([]byte("{"), slices.Concat(host...), own[1:]), nil
}
