package resource

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/duration"
)

// column is a column that kubectl always prints; wide one for -o wide alone.
func column(name, kind string) metav1.TableColumnDefinition {
	c := metav1.TableColumnDefinition{Name: name, Type: kind}
	if name == "Name" {
		c.Format = "name"
	}
	c.Description = describeColumn(name)
	return c
}

func wide(name, kind string) metav1.TableColumnDefinition {
	c := column(name, kind)
	c.Priority = 1
	return c
}

func describeColumn(name string) string {
	switch name {
	case "Name":
		return "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
	case "Age", "Created At":
		return "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
	}
	return ""
}

// defaultColumns are shown for kinds without a table of their own.
var defaultColumns = []metav1.TableColumnDefinition{column("Name", "string"), {Name: "Created At", Type: "date", Description: describeColumn("Created At")}}

func defaultRow(obj Object) []any {
	return []any{obj.GetName(), obj.GetCreationTimestamp().UTC().Format(time.RFC3339)}
}

// TableColumns are the kind's columns.
func (k *Kind) TableColumns() []metav1.TableColumnDefinition {
	if k.Row == nil {
		return defaultColumns
	}
	columns := slices.Clone(k.Columns)
	for i := range columns {
		if text := columnTexts[k.Plural][columns[i].Name]; text != "" {
			columns[i].Description = text
		}
	}
	return columns
}

// TableRow is one object's line.
func (k *Kind) TableRow(obj Object, now time.Time) []any {
	if k.Row == nil {
		return defaultRow(obj)
	}
	return k.Row(obj, now)
}

// age is how long ago t was, as kubectl writes it: "5s", "3m12s", "2d".
func age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func created(obj Object, now time.Time) string { return age(obj.GetCreationTimestamp(), now) }

func orNone(s string) string {
	if s == "" {
		return "<none>"
	}
	return s
}

func containers(spec corev1.PodSpec) (names, images string) {
	var n, i []string
	for _, c := range spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func selectorText(s *metav1.LabelSelector) string {
	return metav1.FormatLabelSelector(s)
}

func labelsText(l map[string]string) string { return labels.FormatLabels(l) }

// upTo joins at most three items and counts the rest: "80,81,82 + 1 more...".
func upTo(items []string, most int) string {
	if len(items) > most {
		return fmt.Sprintf("%s + %d more...", strings.Join(items[:most], ","), len(items)-most)
	}
	return strings.Join(items, ",")
}

func sortedKeys[M ~map[K]V, K ~string, V any](m M) []K {
	return slices.Sorted(maps.Keys(m))
}
