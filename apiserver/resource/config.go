package resource

import (
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

var dataColumns = []metav1.TableColumnDefinition{column("Name", "string"), column("Data", "string"), column("Age", "string")}

// ConfigMap is a set of named texts that pods read as files or variables.
var ConfigMap = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "ConfigMap", Plural: "configmaps", Singular: "configmap", ShortNames: []string{"cm"},
	Namespaced: true, Prefix: "/registry/configmaps/",
	MetaAgain: metaTwice,
	New:       func() Object { return &corev1.ConfigMap{} },
	NewList:   func() runtime.Object { return &corev1.ConfigMapList{} },
	Default:   on(func(c *corev1.ConfigMap) { emptyForNull(c.BinaryData) }),
	Validate:  check(validateConfigMap),
	Columns:   dataColumns,
	Row: row(func(c *corev1.ConfigMap, now time.Time) []any {
		return []any{c.Name, int64(len(c.Data) + len(c.BinaryData)), created(c, now)}
	}),
}

// Secret is a ConfigMap that fewer may read.
var Secret = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "Secret", Plural: "secrets", Singular: "secret",
	Namespaced: true, Prefix: "/registry/secrets/",
	MetaAgain: metaTwice,
	New:       func() Object { return &corev1.Secret{} },
	NewList:   func() runtime.Object { return &corev1.SecretList{} },
	Default:   on(defaultSecret),
	Validate:  check(validateSecret),
	Warn:      warn(warnSecret),
	Fields:    selectable(func(s *corev1.Secret) fields.Set { return fields.Set{"type": string(s.Type)} }),
	Columns:   []metav1.TableColumnDefinition{column("Name", "string"), column("Type", "string"), column("Data", "string"), column("Age", "string")},
	Row: row(func(s *corev1.Secret, now time.Time) []any {
		return []any{s.Name, string(s.Type), int64(len(s.Data)), created(s, now)}
	}),
}

// ServiceAccount is who a pod is when it calls the API.
var ServiceAccount = &Kind{
	GroupVersion: corev1.SchemeGroupVersion,
	Kind:         "ServiceAccount", Plural: "serviceaccounts", Singular: "serviceaccount", ShortNames: []string{"sa"},
	Namespaced: true, Prefix: "/registry/serviceaccounts/",
	MetaAgain:     metaTwice,
	New:           func() Object { return &corev1.ServiceAccount{} },
	NewList:       func() runtime.Object { return &corev1.ServiceAccountList{} },
	ReturnDeleted: true,
	Subresources:  []Subresource{{Name: "token", Kind: "TokenRequest", GroupVersion: authenticationV1, Verbs: []string{"create"}}},
	Columns:       []metav1.TableColumnDefinition{column("Name", "string"), column("Age", "string")},
	Row: row(func(s *corev1.ServiceAccount, now time.Time) []any {
		return []any{s.Name, created(s, now)}
	}),
}

func defaultSecret(s *corev1.Secret) {
	set(&s.Type, corev1.SecretTypeOpaque)
	// stringData is a way to write, and is never read back.
	for k, v := range s.StringData {
		if s.Data == nil {
			s.Data = map[string][]byte{}
		}
		s.Data[k] = []byte(v)
	}
	s.StringData = nil
	emptyForNull(s.Data)
}

// emptyForNull: {"k": null} is a k without content.
func emptyForNull(data map[string][]byte) {
	for k, v := range data {
		if v == nil {
			data[k] = []byte{}
		}
	}
}

// maxData bounds what a ConfigMap or a Secret holds, in bytes.
const maxData = 1 << 20

func validateConfigMap(c, old *corev1.ConfigMap) field.ErrorList {
	var errs field.ErrorList
	total := 0
	for _, key := range sortedKeys(c.Data) {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, msg))
		}
		if _, twice := c.BinaryData[key]; twice {
			errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, "duplicate of key present in binaryData"))
		}
		total += len(c.Data[key])
	}
	for _, key := range sortedKeys(c.BinaryData) {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(field.NewPath("binaryData").Key(key), key, msg))
		}
		total += len(c.BinaryData[key])
	}
	if total > maxData {
		errs = append(errs, field.TooLong(field.NewPath(""), nil, maxData))
	}
	if old != nil && old.Immutable != nil && *old.Immutable {
		errs = append(errs, frozen(c.Immutable, !equality.Semantic.DeepEqual(c.Data, old.Data))...)
		if !equality.Semantic.DeepEqual(c.BinaryData, old.BinaryData) {
			errs = append(errs, field.Forbidden(field.NewPath("binaryData"), immutableText))
		}
	}
	return errs
}

func validateSecret(s, old *corev1.Secret) field.ErrorList {
	var errs field.ErrorList
	total := 0
	for _, key := range sortedKeys(s.Data) {
		for _, msg := range validation.IsConfigMapKey(key) {
			errs = append(errs, field.Invalid(field.NewPath("data").Key(key), key, msg))
		}
		total += len(s.Data[key])
	}
	if total > maxData {
		errs = append(errs, field.TooLong(field.NewPath("data"), nil, maxData))
	}
	errs = append(errs, validateSecretType(s)...)
	if old != nil && old.Type != s.Type {
		errs = append(errs, field.Invalid(field.NewPath("type"), s.Type, "field is immutable"))
	}
	if old != nil && old.Immutable != nil && *old.Immutable {
		errs = append(errs, frozen(s.Immutable, !equality.Semantic.DeepEqual(s.Data, old.Data))...)
	}
	return errs
}

// frozen: what is immutable stays so, and its data too.
func frozen(immutable *bool, changed bool) field.ErrorList {
	var errs field.ErrorList
	if immutable == nil || !*immutable {
		errs = append(errs, field.Forbidden(field.NewPath("immutable"), immutableText))
	}
	if changed {
		errs = append(errs, field.Forbidden(field.NewPath("data"), immutableText))
	}
	return errs
}

const immutableText = "field is immutable when `immutable` is set"

// Lease is a heartbeat: of a node, or of the leader among several controllers.
var Lease = &Kind{
	GroupVersion: coordinationv1.SchemeGroupVersion,
	Kind:         "Lease", Plural: "leases", Singular: "lease",
	Namespaced: true, Prefix: "/registry/leases/",
	AnyFinalizer:   true,
	New:            func() Object { return &coordinationv1.Lease{} },
	NewList:        func() runtime.Object { return &coordinationv1.LeaseList{} },
	CreateOnUpdate: true,
	NamesVersion:   true,
	Validate:       check(validateLease),
	Columns:        []metav1.TableColumnDefinition{column("Name", "string"), column("Holder", "string"), column("Age", "string")},
	Row: row(func(l *coordinationv1.Lease, now time.Time) []any {
		holder := ""
		if l.Spec.HolderIdentity != nil {
			holder = *l.Spec.HolderIdentity
		}
		return []any{l.Name, holder, created(l, now)}
	}),
}

// IPAddress marks one address of the service range as taken; its parentRef
// says by which Service.
var IPAddress = &Kind{
	GroupVersion: networkingv1.SchemeGroupVersion,
	Kind:         "IPAddress", Plural: "ipaddresses", Singular: "ipaddress", ShortNames: []string{"ip"},
	Prefix:   "/registry/ipaddresses/",
	New:      func() Object { return &networkingv1.IPAddress{} },
	NewList:  func() runtime.Object { return &networkingv1.IPAddressList{} },
	NameRule: nameIsIP,
	Validate: check(validateIPAddress),
	// Rows have the age too, which has no column; upstream's are so.
	Columns: []metav1.TableColumnDefinition{column("Name", "string"), column("ParentRef", "string")},
	Row: row(func(ip *networkingv1.IPAddress, now time.Time) []any {
		parent := "<none>"
		if r := ip.Spec.ParentRef; r != nil {
			parent = r.Resource + "/" + r.Namespace + "/" + r.Name
			if r.Group != "" {
				parent = r.Resource + "." + r.Group + "/" + r.Namespace + "/" + r.Name
			}
		}
		return []any{ip.Name, parent, created(ip, now)}
	}),
}

// PriorityClass gives pods a priority by name.
var PriorityClass = &Kind{
	GroupVersion: schedulingv1.SchemeGroupVersion,
	Kind:         "PriorityClass", Plural: "priorityclasses", Singular: "priorityclass", ShortNames: []string{"pc"},
	Prefix: "/registry/priorityclasses/",
	// The generation is 1 for ever: upstream does not count on.
	Prepare: onBoth(func(p, old *schedulingv1.PriorityClass) {
		if old == nil {
			p.Generation = 1
		}
	}),
	New:      func() Object { return &schedulingv1.PriorityClass{} },
	NewList:  func() runtime.Object { return &schedulingv1.PriorityClassList{} },
	Default:  on(func(p *schedulingv1.PriorityClass) { setPtr(&p.PreemptionPolicy, corev1.PreemptLowerPriority) }),
	Validate: check(validatePriorityClass),
	Columns: []metav1.TableColumnDefinition{
		column("Name", "string"), column("Value", "integer"), column("Global-Default", "boolean"), column("Age", "string"), column("PreemptionPolicy", "string"),
	},
	Row: row(func(p *schedulingv1.PriorityClass, now time.Time) []any {
		return []any{p.Name, int64(p.Value), p.GlobalDefault, created(p, now), string(*p.PreemptionPolicy)}
	}),
}

// validatePriorityClass: a class means the same as long as it exists, and the
// system's own names and heights are taken.
func validatePriorityClass(p, old *schedulingv1.PriorityClass) field.ErrorList {
	var errs field.ErrorList
	if old != nil {
		if p.Value != old.Value {
			errs = append(errs, field.Forbidden(field.NewPath("value"), "may not be changed in an update."))
		}
		return append(errs, apivalidation.ValidateImmutableField(p.PreemptionPolicy, old.PreemptionPolicy, field.NewPath("preemptionPolicy"))...)
	}
	const system, highest = "system-", 1000000000
	if !strings.HasPrefix(p.Name, system) {
		if p.Value > highest {
			errs = append(errs, field.Forbidden(field.NewPath("value"), "maximum allowed value of a user defined priority is 1000000000"))
		}
	} else if why := notOfSystem(p); why != "" {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "name"), "priority class names with '"+system+"' prefix are reserved for system use only. error: "+why))
	}
	return append(errs, supported(*p.PreemptionPolicy, field.NewPath("preemptionPolicy"), corev1.PreemptLowerPriority, corev1.PreemptNever)...)
}

// notOfSystem tells in what a class is none of the two that the server makes.
func notOfSystem(p *schedulingv1.PriorityClass) string {
	value, ok := map[string]int32{"system-node-critical": 2000001000, "system-cluster-critical": 2000000000}[p.Name]
	switch {
	case !ok:
		return p.Name + " is not a known system priority class"
	case p.Value != value:
		return fmt.Sprintf("value of %s PriorityClass must be %d", p.Name, value)
	case p.GlobalDefault:
		return fmt.Sprintf("globalDefault of %s PriorityClass must be false", p.Name)
	}
	return ""
}

func validateLease(l, _ *coordinationv1.Lease) field.ErrorList {
	var errs field.ErrorList
	if d := l.Spec.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := l.Spec.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(field.NewPath("spec", "leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	strategy := ""
	if s := l.Spec.Strategy; s != nil {
		strategy = string(*s)
		errs = append(errs, validateLeaseStrategy(*s, specPath.Child("strategy", "strategy"))...)
	}
	if h := l.Spec.PreferredHolder; h != nil && *h != "" && strategy == "" {
		errs = append(errs, field.Forbidden(specPath.Child("preferredHolder"), "may only be specified if `strategy` is defined"))
	}
	return errs
}

// validateLeaseStrategy: Kubernetes has one way to choose a leader; others name
// theirs example.com/name.
func validateLeaseStrategy(s coordinationv1.CoordinatedLeaseStrategy, at *field.Path) field.ErrorList {
	if !strings.Contains(string(s), "/") {
		if s == coordinationv1.OldestEmulationVersion {
			return nil
		}
		return field.ErrorList{field.NotSupported(at, s, []coordinationv1.CoordinatedLeaseStrategy{coordinationv1.OldestEmulationVersion})}
	}
	var errs field.ErrorList
	for _, msg := range validation.IsQualifiedName(string(s)) {
		errs = append(errs, field.Invalid(at, s, msg))
	}
	return errs
}
