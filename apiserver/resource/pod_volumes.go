package resource

import (
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validateVolumes returns the volumes that may be mounted: a volume with a
// mistake is none, so who mounts it is told that it is not found.
func validateVolumes(volumes []corev1.Volume, at *field.Path) (map[string]corev1.VolumeSource, field.ErrorList) {
	var all field.ErrorList
	good := map[string]corev1.VolumeSource{}
	for i, v := range volumes {
		errs := validateVolumeSource(&v.VolumeSource, at.Index(i))
		name := at.Index(i).Child("name")
		if v.Name == "" {
			errs = append(errs, field.Required(name, ""))
		} else {
			errs = append(errs, each(name, v.Name, validation.IsDNS1123Label(v.Name))...)
		}
		if _, taken := good[v.Name]; taken {
			errs = append(errs, field.Duplicate(name, v.Name))
		}
		if len(errs) == 0 {
			good[v.Name] = v.VolumeSource
		}
		all = append(all, errs...)
	}
	return good, all
}

// validateVolumeSource looks into the sources that a node of ours can make.
func validateVolumeSource(v *corev1.VolumeSource, at *field.Path) field.ErrorList {
	if errs := oneSource(v, at); len(errs) > 0 {
		return errs
	}
	switch {
	case v.EmptyDir != nil:
		if limit := v.EmptyDir.SizeLimit; limit != nil && limit.Sign() < 0 {
			return field.ErrorList{field.Forbidden(at.Child("emptyDir", "sizeLimit"), "SizeLimit field must be a valid resource quantity")}
		}
	case v.HostPath != nil:
		return validateHostPath(v.HostPath, at.Child("hostPath"))
	case v.Secret != nil:
		at := at.Child("secret")
		return slices.Concat(required(v.Secret.SecretName, at.Child("secretName")), validateMode(v.Secret.DefaultMode, at.Child("defaultMode")), validateKeysToPaths(v.Secret.Items, at.Child("items")))
	case v.ConfigMap != nil:
		at := at.Child("configMap")
		return slices.Concat(required(v.ConfigMap.Name, at.Child("name")), validateMode(v.ConfigMap.DefaultMode, at.Child("defaultMode")), validateKeysToPaths(v.ConfigMap.Items, at.Child("items")))
	case v.DownwardAPI != nil:
		at := at.Child("downwardAPI")
		errs := validateMode(v.DownwardAPI.DefaultMode, at.Child("defaultMode"))
		for i := range v.DownwardAPI.Items {
			errs = append(errs, validateDownwardFile(&v.DownwardAPI.Items[i], at)...)
		}
		return errs
	case v.Projected != nil:
		at := at.Child("projected")
		return append(validateMode(v.Projected.DefaultMode, at.Child("defaultMode")), validateProjected(v.Projected.Sources, at)...)
	case v.PersistentVolumeClaim != nil:
		return required(v.PersistentVolumeClaim.ClaimName, at.Child("persistentVolumeClaim", "claimName"))
	}
	return nil
}

// oneSource: a volume is one thing. What is named beside an emptyDir, or after
// another source, is in the way.
func oneSource(v *corev1.VolumeSource, at *field.Path) field.ErrorList {
	value, first := reflect.ValueOf(v).Elem(), v.EmptyDir == nil
	for i := range value.NumField() {
		if value.Field(i).IsNil() || value.Type().Field(i).Name == "EmptyDir" {
			continue
		}
		if !first {
			return field.ErrorList{field.Forbidden(at.Child(jsonName(value.Type().Field(i))), "may not specify more than 1 volume type")}
		}
		first = false
	}
	return nil
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func validateHostPath(h *corev1.HostPathVolumeSource, at *field.Path) field.ErrorList {
	if h.Path == "" {
		return required(h.Path, at.Child("path"))
	}
	errs := noBacksteps(h.Path, at.Child("path"))
	types := []corev1.HostPathType{
		corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev, corev1.HostPathDirectory,
		corev1.HostPathDirectoryOrCreate, corev1.HostPathFile, corev1.HostPathFileOrCreate, corev1.HostPathSocket,
	}
	if h.Type != nil && !slices.Contains(types, *h.Type) {
		errs = append(errs, field.NotSupported(at.Child("type"), *h.Type, types))
	}
	return errs
}

// validateMode: permissions of a file, without setuid and sticky bits.
func validateMode(mode *int32, at *field.Path) field.ErrorList {
	if mode == nil || (*mode >= 0 && *mode <= 0o777) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, *mode, "must be a number between 0 and 0777 (octal), both inclusive")}
}

func validateKeysToPaths(items []corev1.KeyToPath, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, item := range items {
		at := at.Index(i)
		errs = append(errs, required(item.Key, at.Child("key"))...)
		errs = append(errs, required(item.Path, at.Child("path"))...)
		errs = append(errs, insideVolume(item.Path, at.Child("path"))...)
		errs = append(errs, validateMode(item.Mode, at.Child("mode"))...)
	}
	return errs
}

func validateDownwardFile(f *corev1.DownwardAPIVolumeFile, at *field.Path) field.ErrorList {
	errs := append(required(f.Path, at.Child("path")), insideVolume(f.Path, at.Child("path"))...)
	switch {
	case f.FieldRef != nil:
		errs = append(errs, validateFieldRef(f.FieldRef, volumeFields, at.Child("fieldRef"))...)
		if f.ResourceFieldRef != nil {
			errs = append(errs, field.Invalid(at, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously"))
		}
	case f.ResourceFieldRef != nil:
		ref := at.Child("resourceFieldRef")
		if f.ResourceFieldRef.ContainerName == "" {
			errs = append(errs, field.Required(ref.Child("containerName"), ""))
		} else {
			errs = append(errs, validateResourceFieldName(f.ResourceFieldRef.Resource, ref.Child("resource"))...)
		}
		errs = append(errs, validateDivisor(f.ResourceFieldRef, ref.Child("divisor"))...)
	default:
		errs = append(errs, field.Required(at, "one of fieldRef and resourceFieldRef is required"))
	}
	return append(errs, validateMode(f.Mode, at.Child("mode"))...)
}

// validateProjected: many sources fill one directory, so no two of them may
// bring a file of the same path.
func validateProjected(sources []corev1.VolumeProjection, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	taken := sets.New[string]()
	take := func(path string, owner any) {
		if path != "" && taken.Has(path) {
			errs = append(errs, field.Invalid(at, owner, "conflicting duplicate paths"))
		}
		taken.Insert(path)
	}
	for i, s := range sources {
		source := at.Child("sources").Index(i)
		kinds := 0
		if s.Secret != nil {
			kinds++
			errs = append(errs, validateKeysOf(s.Secret.Name, s.Secret.Items, source.Child("secret"), take)...)
		}
		if s.ConfigMap != nil {
			kinds++
			errs = append(errs, validateKeysOf(s.ConfigMap.Name, s.ConfigMap.Items, source.Child("configMap"), take)...)
		}
		if s.DownwardAPI != nil {
			kinds++
			for i := range s.DownwardAPI.Items {
				errs = append(errs, validateDownwardFile(&s.DownwardAPI.Items[i], source.Child("downwardAPI"))...)
				take(s.DownwardAPI.Items[i].Path, s.DownwardAPI.Items[i].Path)
			}
		}
		if s.ServiceAccountToken != nil {
			kinds++
			errs = append(errs, validateToken(s.ServiceAccountToken, source.Child("serviceAccountToken"), at.Child("path"))...)
		}
		if kinds > 1 {
			errs = append(errs, field.Forbidden(source, "may not specify more than 1 volume type per source"))
		}
	}
	return errs
}

func validateKeysOf(name string, items []corev1.KeyToPath, at *field.Path, take func(path string, owner any)) field.ErrorList {
	errs := append(required(name, at.Child("name")), validateKeysToPaths(items, at.Child("items"))...)
	for _, item := range items {
		take(item.Path, name)
	}
	return errs
}

func validateToken(t *corev1.ServiceAccountTokenProjection, at, pathAt *field.Path) field.ErrorList {
	var errs field.ErrorList
	switch seconds := *t.ExpirationSeconds; {
	case seconds < 10*60:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), seconds, "may not specify a duration less than 10 minutes"))
	case seconds > 1<<32:
		errs = append(errs, field.Invalid(at.Child("expirationSeconds"), seconds, "may not specify a duration larger than 2^32 seconds"))
	}
	if t.Path == "" {
		return append(errs, field.Required(pathAt, ""))
	}
	return append(errs, insideVolume(t.Path, pathAt)...)
}

// validateTokenOwner: a pod without a ServiceAccount has nobody whose token it
// could be. Templates get one later, at the pod's creation.
func validateTokenOwner(s *corev1.PodSpec) field.ErrorList {
	if s.ServiceAccountName != "" {
		return nil
	}
	var errs field.ErrorList
	for i, v := range s.Volumes {
		if v.Projected == nil {
			continue
		}
		for j, source := range v.Projected.Sources {
			if source.ServiceAccountToken != nil {
				errs = append(errs, field.Forbidden(specPath.Child("volumes").Index(i).Child("projected", "sources").Index(j).Child("serviceAccountToken"), "must not be specified when serviceAccountName is not set"))
			}
		}
	}
	return errs
}

// insideVolume: "a/b" and "..a/b" is not the same: the kubelet keeps its own
// names, such as ..data, at the top of the volume.
func insideVolume(p string, at *field.Path) field.ErrorList {
	errs := descending(p, at)
	if strings.HasPrefix(p, "..") && !strings.HasPrefix(p, "../") {
		errs = append(errs, field.Invalid(at, p, "must not start with '..'"))
	}
	return errs
}

func descending(p string, at *field.Path) field.ErrorList {
	var errs field.ErrorList
	if path.IsAbs(p) {
		errs = append(errs, field.Invalid(at, p, "must be a relative path"))
	}
	return append(errs, noBacksteps(p, at)...)
}

func noBacksteps(p string, at *field.Path) field.ErrorList {
	if slices.Contains(strings.Split(p, "/"), "..") {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

// volumeFields and envFields are what the downward API tells of the pod.
var (
	volumeFields = []string{"metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"}
	envFields    = []string{
		"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName",
		"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
	}
	knownFields = append([]string{"spec.restartPolicy", "spec.schedulerName", "status.phase", "spec.host"}, slices.Concat(volumeFields, envFields)...)
)

func validateFieldRef(ref *corev1.ObjectFieldSelector, supported []string, at *field.Path) field.ErrorList {
	if ref.FieldPath == "" {
		return required(ref.FieldPath, at.Child("fieldPath"))
	}
	failed := func(format string, args ...any) field.ErrorList {
		return field.ErrorList{field.Invalid(at.Child("fieldPath"), ref.FieldPath, "error converting fieldPath: "+fmt.Sprintf(format, args...))}
	}
	if ref.APIVersion != "v1" {
		return failed("unsupported pod version: %s", ref.APIVersion)
	}
	// metadata.labels['app'] is one label.
	if name, rest, ok := strings.Cut(ref.FieldPath, "['"); ok && name != "" && strings.HasSuffix(rest, "']") {
		key := strings.TrimSuffix(rest, "']")
		switch name {
		case "metadata.annotations":
			return each(at, strings.ToLower(key), validation.IsQualifiedName(strings.ToLower(key)))
		case "metadata.labels":
			return each(at, key, validation.IsQualifiedName(key))
		}
		return failed("field label does not support subscript: %s", ref.FieldPath)
	}
	name := ref.FieldPath
	if !slices.Contains(knownFields, name) {
		return failed("field label not supported: %s", name)
	}
	if name == "spec.host" { // as clients of old said
		name = "spec.nodeName"
	}
	if !slices.Contains(supported, name) {
		return field.ErrorList{field.NotSupported(at.Child("fieldPath"), name, supported)}
	}
	return nil
}

var resourceFields = []string{"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"}

func isHugePageField(name string) bool {
	return strings.HasPrefix(name, "requests.hugepages-") || strings.HasPrefix(name, "limits.hugepages-")
}

func validateResourceFieldName(name string, at *field.Path) field.ErrorList {
	switch {
	case name == "":
		return field.ErrorList{field.Required(at, "")}
	case slices.Contains(resourceFields, name), isHugePageField(name):
		return nil
	}
	return field.ErrorList{field.NotSupported(at, name, resourceFields)}
}

// validateDivisor: the unit in which the container is told, 1m of a cpu or 1Mi.
func validateDivisor(ref *corev1.ResourceFieldSelector, at *field.Path) field.ErrorList {
	if ref.Divisor.IsZero() {
		return nil
	}
	units, what := []string{"1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"}, ""
	told := strings.Join(units, ", ")
	switch name := ref.Resource; {
	case strings.HasSuffix(name, "s.cpu"):
		units, told, what = []string{"1m", "1"}, "1m and 1", "cpu"
	case strings.HasSuffix(name, "s.memory"):
		what = "memory"
	case strings.HasSuffix(name, "s.ephemeral-storage"):
		what = "local ephemeral storage"
	case isHugePageField(name):
		what = "hugepages"
	default:
		return nil
	}
	if slices.Contains(units, ref.Divisor.String()) {
		return nil
	}
	return field.ErrorList{field.Invalid(at, ref.Resource, fmt.Sprintf("only divisor's values %s are supported with the %s resource", told, what))}
}
