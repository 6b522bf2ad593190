package resource

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What a pod says of the node it runs on, and of itself on that node.

func validateHostAliases(list []corev1.HostAlias, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, a := range list {
		if _, err := netip.ParseAddr(a.IP); err != nil {
			errs = append(errs, field.Invalid(path.Index(i).Child("ip"), a.IP, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
		}
	}
	return errs
}

func validateSpread(list []corev1.TopologySpreadConstraint, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, c := range list {
		at := path.Index(i)
		if c.MaxSkew <= 0 {
			errs = append(errs, field.Invalid(at.Child("maxSkew"), c.MaxSkew, "must be greater than zero"))
		}
		if c.TopologyKey == "" {
			errs = append(errs, field.Required(at.Child("topologyKey"), "can not be empty"))
		}
		errs = append(errs, supported(c.WhenUnsatisfiable, at.Child("whenUnsatisfiable"), corev1.DoNotSchedule, corev1.ScheduleAnyway)...)
	}
	return errs
}

// oneSource: a volume is one thing. What is named beside an emptyDir, or after
// another source, is in the way.
func oneSource(v *corev1.VolumeSource, path *field.Path) field.ErrorList {
	value, first := reflect.ValueOf(v).Elem(), v.EmptyDir == nil
	for i := range value.NumField() {
		if value.Field(i).IsNil() || value.Type().Field(i).Name == "EmptyDir" {
			continue
		}
		if !first {
			return field.ErrorList{field.Forbidden(path.Child(jsonName(value.Type().Field(i))), "may not specify more than 1 volume type")}
		}
		first = false
	}
	return nil
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

type id struct {
	field string
	value *int64
}

// validateIDs: the kernel's user and group numbers, as far as Go's int32 has them.
func validateIDs(path *field.Path, ids ...id) field.ErrorList {
	var errs field.ErrorList
	for _, i := range ids {
		if i.value != nil && (*i.value < 0 || *i.value > math.MaxInt32) {
			errs = append(errs, field.Invalid(path.Child(i.field), *i.value, fmt.Sprintf("must be between 0 and %d, inclusive", math.MaxInt32)))
		}
	}
	return errs
}

func validateTolerations(list []corev1.Toleration, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i, t := range list {
		at := path.Index(i)
		if t.Key == "" && t.Operator != corev1.TolerationOpExists {
			errs = append(errs, field.Invalid(at.Child("operator"), t.Operator, "operator must be Exists when `key` is empty, which means \"match all values and all keys\""))
		}
		if t.Operator == corev1.TolerationOpExists && t.Value != "" {
			errs = append(errs, field.Invalid(at.Child("operator"), t, "value must be empty when `operator` is 'Exists'"))
		}
		if t.Effect != "" {
			errs = append(errs, supported(t.Effect, at.Child("effect"), corev1.TaintEffectNoSchedule, corev1.TaintEffectPreferNoSchedule, corev1.TaintEffectNoExecute)...)
		}
		if t.TolerationSeconds != nil && t.Effect != corev1.TaintEffectNoExecute {
			errs = append(errs, field.Invalid(at.Child("effect"), t.Effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
		}
	}
	return errs
}
