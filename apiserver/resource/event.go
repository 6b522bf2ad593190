package resource

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var eventColumns = []metav1.TableColumnDefinition{
	column("Last Seen", "string"), column("Type", "string"), column("Reason", "string"), column("Object", "string"),
	wide("Subobject", "string"), wide("Source", "string"), column("Message", "string"), wide("First Seen", "string"), wide("Count", "string"), wide("Name", "string"),
}

// Event is a note about an object. It goes after an hour.
var Event = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Event", Plural: "events", Singular: "event", ShortNames: []string{"ev"},
	Namespaced: true, Prefix: "/registry/events/",
	MetaAgain:      metaNever,
	AnyFinalizer:   true,
	New:            func() Object { return &corev1.Event{} },
	NewList:        func() runtime.Object { return &corev1.EventList{} },
	Fields:         selectable(eventFields),
	NameRule:       roleName, // recorders put all sorts of names into it
	Validate:       check(validateEvent),
	TTL:            time.Hour,
	CreateOnUpdate: true,
	Columns:        eventColumns,
	Row:            row(eventRow),
}

// EventsEvent is the same event as the group events.k8s.io shows it.
var EventsEvent = &Kind{
	GroupVersion: eventsv1.SchemeGroupVersion,
	Kind:         "Event", Plural: "events", Singular: "event", ShortNames: []string{"ev"},
	Namespaced: true, Prefix: Event.Prefix,
	New:            func() Object { return &eventsv1.Event{} },
	NewList:        func() runtime.Object { return &eventsv1.EventList{} },
	Fields:         selectable(eventsFields),
	TTL:            Event.TTL,
	CreateOnUpdate: true,
	Columns:        eventColumns,
	Row:            Event.Row,
	Storage:        Event,
	ToStorage:      func(o Object) Object { return eventToCore(o.(*eventsv1.Event)) },
	FromStorage:    func(o Object) Object { return eventFromCore(o.(*corev1.Event)) },
}

func eventToCore(e *eventsv1.Event) *corev1.Event {
	out := &corev1.Event{
		ObjectMeta: e.ObjectMeta, InvolvedObject: e.Regarding, Related: e.Related, Reason: e.Reason, Message: e.Note, Type: e.Type,
		Source: e.DeprecatedSource, FirstTimestamp: e.DeprecatedFirstTimestamp, LastTimestamp: e.DeprecatedLastTimestamp, Count: e.DeprecatedCount,
		EventTime: e.EventTime, Action: e.Action, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &corev1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	out.SetGroupVersionKind(Event.GVK())
	return out
}

func eventFromCore(e *corev1.Event) *eventsv1.Event {
	out := &eventsv1.Event{
		ObjectMeta: e.ObjectMeta, Regarding: e.InvolvedObject, Related: e.Related, Reason: e.Reason, Note: e.Message, Type: e.Type,
		DeprecatedSource: e.Source, DeprecatedFirstTimestamp: e.FirstTimestamp, DeprecatedLastTimestamp: e.LastTimestamp, DeprecatedCount: e.Count,
		EventTime: e.EventTime, Action: e.Action, ReportingController: e.ReportingController, ReportingInstance: e.ReportingInstance,
	}
	if e.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: e.Series.Count, LastObservedTime: e.Series.LastObservedTime}
	}
	out.SetGroupVersionKind(eventsv1.SchemeGroupVersion.WithKind("Event"))
	return out
}

// validateEvent: an event of old lies in the namespace of its object, a new one
// (it has an eventTime) tells who reports what.
func validateEvent(e, _ *corev1.Event) field.ErrorList {
	var errs field.ErrorList
	about := e.InvolvedObject.Namespace
	home := e.Namespace == metav1.NamespaceDefault || e.Namespace == metav1.NamespaceSystem && !e.EventTime.IsZero()
	if about == "" && !home || about != "" && about != e.Namespace && e.EventTime.IsZero() {
		errs = append(errs, field.Invalid(field.NewPath("involvedObject", "namespace"), about, "does not match event.namespace"))
	}
	if !e.EventTime.IsZero() {
		errs = append(errs, validateReport(e)...)
	}
	for _, msg := range validation.IsDNS1123Subdomain(e.Namespace) {
		errs = append(errs, field.Invalid(field.NewPath("namespace"), e.Namespace, msg))
	}
	return errs
}

func validateReport(e *corev1.Event) field.ErrorList {
	at := field.NewPath("reportingComponent")
	errs := wantsText(at, e.ReportingController, 0)
	for _, msg := range validation.IsQualifiedName(e.ReportingController) {
		errs = append(errs, field.Invalid(at, e.ReportingController, msg))
	}
	errs = append(errs, wantsText(field.NewPath("reportingInstance"), e.ReportingInstance, 128)...)
	errs = append(errs, wantsText(field.NewPath("action"), e.Action, 128)...)
	errs = append(errs, wantsText(field.NewPath("reason"), e.Reason, 128)...)
	if len(e.Message) > 1024 {
		errs = append(errs, field.Invalid(field.NewPath("message"), "", "can have at most 1024 characters"))
	}
	return errs
}

// wantsText: not empty, and not longer than most bytes (0: as long as you like).
func wantsText(at *field.Path, text string, most int) field.ErrorList {
	switch {
	case text == "":
		return field.ErrorList{field.Required(at, "")}
	case most > 0 && len(text) > most:
		return field.ErrorList{field.Invalid(at, "", fmt.Sprintf("can have at most %d characters", most))}
	}
	return nil
}

func eventFields(e *corev1.Event) fields.Set {
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	o := e.InvolvedObject
	return fields.Set{
		"involvedObject.kind": o.Kind, "involvedObject.namespace": o.Namespace, "involvedObject.name": o.Name, "involvedObject.uid": string(o.UID),
		"involvedObject.apiVersion": o.APIVersion, "involvedObject.resourceVersion": o.ResourceVersion, "involvedObject.fieldPath": o.FieldPath,
		"reason": e.Reason, "reportingComponent": e.ReportingController, "source": source, "type": e.Type,
	}
}

// eventsFields are those of the group events.k8s.io.
func eventsFields(e *corev1.Event) fields.Set {
	o := e.InvolvedObject
	return fields.Set{
		"regarding.kind": o.Kind, "regarding.namespace": o.Namespace, "regarding.name": o.Name, "regarding.uid": string(o.UID),
		"regarding.apiVersion": o.APIVersion, "regarding.resourceVersion": o.ResourceVersion, "regarding.fieldPath": o.FieldPath,
		"reason": e.Reason, "reportingController": e.ReportingController, "type": e.Type,
	}
}

func eventRow(e *corev1.Event, now time.Time) []any {
	first, last := e.FirstTimestamp, e.LastTimestamp
	if first.IsZero() {
		first = metav1.Time{Time: e.EventTime.Time}
	}
	if last.IsZero() {
		last = first
	}
	n := e.Count
	if e.Series != nil {
		last, n = metav1.Time{Time: e.Series.LastObservedTime.Time}, e.Series.Count
	}
	if n == 0 {
		n = 1
	}
	source := e.Source.Component
	if source == "" {
		source = e.ReportingController
	}
	instance := e.Source.Host
	if instance == "" {
		instance = e.ReportingInstance
	}
	if instance != "" {
		source = fmt.Sprintf("%s, %s", source, instance)
	}
	object := e.InvolvedObject.Name
	if kind := e.InvolvedObject.Kind; kind != "" {
		object = strings.ToLower(kind) + "/" + object
	}
	return []any{age(last, now), e.Type, e.Reason, object, e.InvolvedObject.FieldPath, source, strings.TrimSpace(e.Message), age(first, now), int64(n), e.Name}
}
