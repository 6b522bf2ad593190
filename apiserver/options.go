package apiserver

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// writeOptions are the parameters that create, update and patch have in common.
type writeOptions struct {
	dryRun       bool
	validation   string // fieldValidation
	fieldManager string
	force        bool
	applied      bool // a server-side apply, whose owners are known already
}

// writeOptionsOf reads them; kind is CreateOptions, UpdateOptions or
// PatchOptions, for the errors.
func writeOptionsOf(r *http.Request, kind string) (writeOptions, error) {
	q := r.URL.Query()
	o := writeOptions{validation: q.Get("fieldValidation"), fieldManager: q.Get("fieldManager"), force: q.Get("force") == "true"}
	var errs field.ErrorList
	dryRun, err := dryRunOf(q["dryRun"])
	if err != nil {
		errs = append(errs, err)
	}
	o.dryRun = dryRun
	known := []string{"", metav1.FieldValidationIgnore, metav1.FieldValidationStrict, metav1.FieldValidationWarn}
	if !slices.Contains(known, o.validation) {
		errs = append(errs, field.NotSupported(field.NewPath("fieldValidation"), o.validation, known))
	}
	if len(errs) > 0 {
		return o, invalidOptions(kind, errs...)
	}
	if o.validation == "" {
		o.validation = metav1.FieldValidationWarn
	}
	return o, nil
}

func dryRunOf(values []string) (bool, *field.Error) {
	for _, v := range values {
		if v != "" && v != metav1.DryRunAll {
			return false, field.NotSupported(field.NewPath("dryRun"), values, []string{metav1.DryRunAll})
		}
	}
	return slices.Contains(values, metav1.DryRunAll), nil
}

// listOptions are the parameters of list, watch and deletecollection.
type listOptions struct {
	labels  labels.Selector
	fields  fields.Selector
	limit   int64
	cont    string
	version string // resourceVersion
	match   metav1.ResourceVersionMatch
	// for watches:
	timeoutSeconds    int64
	bookmarks         bool
	sendInitialEvents *bool
}

func listOptionsOf(q url.Values, watch bool) (o listOptions, err error) {
	if o.labels, err = labels.Parse(q.Get("labelSelector")); err != nil {
		return o, badRequest("%v", err)
	}
	if o.fields, err = fields.ParseSelector(q.Get("fieldSelector")); err != nil {
		return o, badRequest("%v", err)
	}
	if o.limit, err = number(q, "limit"); err != nil {
		return o, err
	}
	if o.timeoutSeconds, err = number(q, "timeoutSeconds"); err != nil {
		return o, err
	}
	o.cont = q.Get("continue")
	o.version = q.Get("resourceVersion")
	o.match = metav1.ResourceVersionMatch(q.Get("resourceVersionMatch"))
	o.bookmarks = truthy(q.Get("allowWatchBookmarks"))
	if q.Has("sendInitialEvents") {
		send := truthy(q.Get("sendInitialEvents"))
		o.sendInitialEvents = &send
	}
	if o.version != "" && o.version != "0" {
		if _, err := strconv.ParseUint(o.version, 10, 64); err != nil {
			return o, badRequest("invalid resource version: %v", field.Invalid(field.NewPath("resourceVersion"), o.version, err.Error()))
		}
	}
	return o, o.validate(watch)
}

// validate checks how resourceVersion, its match, and sendInitialEvents may be
// combined.
func (o *listOptions) validate(watch bool) error {
	var errs field.ErrorList
	match := field.NewPath("resourceVersionMatch")
	switch {
	case o.sendInitialEvents != nil && !watch:
		errs = append(errs, field.Forbidden(field.NewPath("sendInitialEvents"), "sendInitialEvents is forbidden for list"))
	case o.sendInitialEvents != nil && o.match != metav1.ResourceVersionMatchNotOlderThan:
		errs = append(errs, field.Forbidden(match, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	case o.sendInitialEvents != nil:
	case o.match == "":
	case watch:
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
	case o.version == "":
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden unless resourceVersion is provided"))
	case o.cont != "":
		errs = append(errs, field.Forbidden(match, "resourceVersionMatch is forbidden when continue is provided"))
	case o.match != metav1.ResourceVersionMatchExact && o.match != metav1.ResourceVersionMatchNotOlderThan:
		errs = append(errs, field.NotSupported(match, o.match, []string{string(metav1.ResourceVersionMatchExact), string(metav1.ResourceVersionMatchNotOlderThan), ""}))
	case o.match == metav1.ResourceVersionMatchExact && o.version == "0":
		errs = append(errs, field.Forbidden(match, `resourceVersionMatch "exact" is forbidden for resourceVersion "0"`))
	}
	if len(errs) > 0 {
		return invalidOptions("ListOptions", errs...)
	}
	return nil
}

func number(q url.Values, name string) (int64, error) {
	v := q.Get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0, badRequest("%v", err)
	}
	return n, nil
}

// truthy reads a boolean parameter as upstream does: present is true, unless
// it says false or 0.
func truthy(v string) bool { return v != "" && v != "false" && v != "0" }
