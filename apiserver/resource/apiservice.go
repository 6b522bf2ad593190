package resource

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// APIService says who answers for a group and version of the API, such as
// v1.apps. Here that is always this server ("Local"); the objects are there for
// clients that look, like `kubectl get apiservices` and `kubectl wait`.
var APIService = &Kind{
	GroupVersion: apiregistrationv1.SchemeGroupVersion,
	Kind:         "APIService", Plural: "apiservices", Singular: "apiservice", Categories: []string{"api-extensions"},
	Prefix:   "/registry/apiregistration.k8s.io/apiservices/",
	New:      func() Object { return &apiregistrationv1.APIService{} },
	NewList:  func() runtime.Object { return &apiregistrationv1.APIServiceList{} },
	Prepare:  onBoth(prepareAPIService),
	Validate: check(validateAPIService),
	NameRule: roleName, // "v1." is the name of the core group's
	Status:   true,
	Columns:  []metav1.TableColumnDefinition{column("Name", "string"), column("Service", "string"), column("Available", "string"), column("Age", "string")},
	Row: row(func(a *apiregistrationv1.APIService, now time.Time) []any {
		return []any{a.Name, serverOf(a), availability(a), created(a, now)}
	}),
}

func serverOf(a *apiregistrationv1.APIService) string {
	if a.Spec.Service == nil {
		return "Local"
	}
	return a.Spec.Service.Namespace + "/" + a.Spec.Service.Name
}

func availability(a *apiregistrationv1.APIService) string {
	for _, c := range a.Status.Conditions {
		if c.Type == apiregistrationv1.Available {
			if c.Status == apiregistrationv1.ConditionTrue {
				return string(c.Status)
			}
			return string(c.Status) + " (" + c.Reason + ")"
		}
	}
	return "Unknown"
}

// validateAPIService: requests are not passed on to servers of others, and an
// APIService that says so would promise what nobody keeps.
func validateAPIService(a, _ *apiregistrationv1.APIService) field.ErrorList {
	var errs field.ErrorList
	spec := field.NewPath("spec")
	if want := a.Spec.Version + "." + a.Spec.Group; a.Name != want {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), a.Name, "must be `spec.version+\".\"+spec.group`: \""+want+"\""))
	}
	if a.Spec.Service != nil {
		errs = append(errs, field.Forbidden(spec.Child("service"), "this server passes requests on to no other API server"))
	}
	return errs
}

// LocalAPIService is the object that tells that this server answers for gv.
func LocalAPIService(gv schema.GroupVersion) *apiregistrationv1.APIService {
	a := &apiregistrationv1.APIService{
		ObjectMeta: metav1.ObjectMeta{
			Name:   gv.Version + "." + gv.Group,
			Labels: map[string]string{"kube-aggregator.kubernetes.io/automanaged": "onstart"},
		},
		Spec: apiregistrationv1.APIServiceSpec{Group: gv.Group, Version: gv.Version, GroupPriorityMinimum: 17000, VersionPriority: 15},
	}
	if gv.Group == "" {
		a.Spec.GroupPriorityMinimum, a.Spec.VersionPriority = 18000, 1
	}
	return a
}

// prepareAPIService: who asks is being answered, so this server is available.
func prepareAPIService(a, old *apiregistrationv1.APIService) {
	if old != nil {
		return
	}
	a.Status.Conditions = []apiregistrationv1.APIServiceCondition{{
		Type: apiregistrationv1.Available, Status: apiregistrationv1.ConditionTrue, LastTransitionTime: metav1.Now().Rfc3339Copy(),
		Reason: "Local", Message: "Local APIServices are always available",
	}}
}
