package resource

import (
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Object is any API object with metadata.
type Object = interface {
	runtime.Object
	metav1.Object
}

// Kind describes one resource of the API to the generic handlers. Functions
// that are nil have nothing to add.
type Kind struct {
	GroupVersion schema.GroupVersion
	Kind         string
	Plural       string // the word in paths: "endpointslices"
	Singular     string
	ShortNames   []string
	Categories   []string
	Namespaced   bool

	// Prefix is where the objects are in etcd: "/registry/pods/".
	Prefix string

	New     func() Object
	NewList func() runtime.Object

	// Default fills in what the client left out.
	Default func(obj Object)

	// Prepare takes from the object what clients may not set, and adds what
	// the server decides. old is nil on create.
	Prepare func(obj, old Object)

	// Validate tells what is wrong with an object; old is nil on create.
	Validate func(obj, old Object) field.ErrorList

	// ValidateChange tells, after that, what is wrong with a change.
	ValidateChange func(obj, old Object) field.ErrorList

	// Warn tells what is allowed in an object, and yet likely a mistake or about
	// to go; old is nil on create. kubectl prints it: "Warning: …".
	Warn func(obj, old Object) []string

	// Deprecated is such a warning about the kind itself, given with each answer.
	Deprecated string

	// CheckPart validates writes through a subresource.
	CheckPart map[string]func(obj, old Object) field.ErrorList

	// Settle completes an object before anything is allocated for it, and tells
	// what is so wrong with it that nothing else is looked at.
	Settle func(obj, old Object) field.ErrorList

	// MetaAgain: an update's metadata is checked for all kinds, and by most
	// kinds' own rules once more. A client sees each mistake as often.
	MetaAgain metaAgain

	// AnyFinalizer: finalizers need not be qualified with a domain.
	AnyFinalizer bool

	// NameRule is the rule for metadata.name; nil stands for a DNS subdomain.
	NameRule func(name string, prefix bool) []string

	// Fields are what fieldSelector may ask for, beside metadata.name and
	// metadata.namespace.
	Fields func(obj Object) fields.Set

	// Columns and Row make the table that kubectl prints. Row gets the time
	// from which ages are counted.
	Columns []metav1.TableColumnDefinition
	Row     func(obj Object, now time.Time) []any

	// Status says that the kind has a status of its own, written through the
	// status subresource only.
	Status bool

	// FixedSpec: the spec is what was asked for on create. Later writes leave it
	// as it is, and nobody owns it.
	FixedSpec bool

	// Generation says that metadata.generation counts the changes of spec.
	Generation bool

	// Subresources are further ones beside status, such as "scale".
	Subresources []Subresource

	// ReturnDeleted: deleting answers with the object and not with a Status.
	ReturnDeleted bool

	// OrphanByDefault: who deletes without saying what shall become of the
	// dependents leaves them alone. Kinds of old do so.
	OrphanByDefault bool
	// OrphanWarning is what they are told then.
	OrphanWarning string

	// CreateOnUpdate: PUT on a name that does not exist creates it.
	CreateOnUpdate bool

	// NamesVersion: an update without resourceVersion is refused, for whoever
	// does not say which state he has seen must not write.
	NamesVersion bool

	// TTL: the object goes by itself after this time. Zero: it stays.
	TTL time.Duration

	// Storage, ToStorage and FromStorage are set where a second group shows
	// the objects of another kind: events.k8s.io/events are core events.
	Storage     *Kind
	ToStorage   func(obj Object) Object
	FromStorage func(obj Object) Object
}

// metaAgain says how often a kind's own rules look at metadata on update.
type metaAgain int

const (
	metaOnce   metaAgain = iota
	metaTwice            // as of a change and as of a new object
	metaAround           // as of a new object, and as of a change after everything else
	metaNever
)

// Subresource is a part of a resource with a path of its own, such as
// pods/NAME/log.
type Subresource struct {
	Name         string
	Kind         string // what is read or written there
	GroupVersion schema.GroupVersion
	Verbs        []string
}

// GVK is the full name of the kind.
func (k *Kind) GVK() schema.GroupVersionKind { return k.GroupVersion.WithKind(k.Kind) }

// GR names the resource in errors: "deployments.apps".
func (k *Kind) GR() schema.GroupResource {
	return k.GroupVersion.WithResource(k.Plural).GroupResource()
}

// GK names the kind in errors of validation: "Deployment.apps".
func (k *Kind) GK() schema.GroupKind { return k.GVK().GroupKind() }

// Under is the prefix of the keys of one namespace, or of all when namespace
// is empty.
func (k *Kind) Under(namespace string) string {
	if namespace == "" {
		return k.Prefix
	}
	return k.Prefix + namespace + "/"
}

// Key is the object's key in etcd: "/registry/pods/default/web".
func (k *Kind) Key(namespace, name string) string {
	if !k.Namespaced {
		return k.Prefix + name
	}
	return k.Prefix + namespace + "/" + name
}

// HasSubresource reports whether the kind has the subresource name.
func (k *Kind) HasSubresource(name string) bool {
	if name == "status" && k.Status {
		return true
	}
	for _, s := range k.Subresources {
		if s.Name == name {
			return true
		}
	}
	return false
}

// Parts are all subresources, in the order of their names.
func (k *Kind) Parts() []Subresource {
	list := slices.Clone(k.Subresources)
	if k.Status {
		list = append(list, Subresource{Name: "status", Kind: k.Kind, Verbs: []string{"get", "patch", "update"}})
	}
	slices.SortFunc(list, func(a, b Subresource) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// GVK is the full name of what is read or written at this part of a k. Where no
// group is said, it is k's own.
func (s Subresource) GVK(k *Kind) schema.GroupVersionKind {
	if s.GroupVersion.Empty() {
		return k.GroupVersion.WithKind(s.Kind)
	}
	return s.GroupVersion.WithKind(s.Kind)
}

// Stored is the kind under which the objects are kept.
func (k *Kind) Stored() *Kind {
	if k.Storage != nil {
		return k.Storage
	}
	return k
}

// SelectableFields are all fields a fieldSelector may ask for.
func (k *Kind) SelectableFields(obj Object) fields.Set {
	set := fields.Set{}
	if k.Fields != nil {
		set = k.Fields(obj)
	}
	set["metadata.name"] = obj.GetName()
	if k.Namespaced {
		set["metadata.namespace"] = obj.GetNamespace()
	}
	return set
}

// The following let a kind's file speak of its own type: on(defaultPod) for
// func defaultPod(*corev1.Pod).

func on[T Object](f func(T)) func(Object) {
	return func(o Object) { f(o.(T)) }
}

func onBoth[T Object](f func(obj, old T)) func(Object, Object) {
	return func(o, old Object) {
		var before T
		if old != nil {
			before = old.(T)
		}
		f(o.(T), before)
	}
}

func check[T Object](f func(obj, old T) field.ErrorList) func(Object, Object) field.ErrorList {
	return func(o, old Object) field.ErrorList {
		var before T
		if old != nil {
			before = old.(T)
		}
		return f(o.(T), before)
	}
}

func selectable[T Object](f func(T) fields.Set) func(Object) fields.Set {
	return func(o Object) fields.Set { return f(o.(T)) }
}

func warn[T Object](f func(T) []string) func(Object, Object) []string {
	return func(o, _ Object) []string { return f(o.(T)) }
}

func warnBoth[T Object](f func(obj, old T) []string) func(Object, Object) []string {
	return func(o, old Object) []string {
		var before T
		if old != nil {
			before = old.(T)
		}
		return f(o.(T), before)
	}
}

func row[T Object](f func(T, time.Time) []any) func(Object, time.Time) []any {
	return func(o Object, now time.Time) []any { return f(o.(T), now) }
}

// set gives a field its default where the client left it empty.
func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// nilIfEmpty: upstream answers null where a list that is always shown is empty.
func nilIfEmpty[T any](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return list
}

// setPtr is set for optional fields.
func setPtr[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// Warnings are what a client shall be told about an object it has written; old
// is nil when it is new.
func (k *Kind) Warnings(obj, old Object) []string {
	if k.Warn == nil {
		return nil
	}
	return k.Warn(obj, old)
}

// ApplyDefaults fills in what the object leaves out.
func (k *Kind) ApplyDefaults(obj Object) {
	if k.Default != nil {
		k.Default(obj)
	}
}

// Check validates a new object (old is nil) or a changed one.
func (k *Kind) Check(obj, old Object) field.ErrorList {
	var errs field.ErrorList
	if old == nil {
		errs = k.validateOwnMeta(obj)
	} else {
		errs = append(k.validateMetaChange(obj, old), k.metaBefore(obj, old)...)
	}
	if k.Validate != nil {
		errs = append(errs, k.Validate(obj, old)...)
	}
	if old != nil && k.MetaAgain == metaAround {
		errs = append(errs, k.validateOwnChange(obj, old)...)
	}
	if old != nil && k.ValidateChange != nil {
		errs = append(errs, k.ValidateChange(obj, old)...)
	}
	return errs
}

// CheckUpdate validates a change made through a subresource ("" for the object
// itself). A write of the status cannot change the spec, so only metadata is
// looked at.
func (k *Kind) CheckUpdate(obj, old Object, subresource string) field.ErrorList {
	if subresource != "" {
		errs := append(k.validateMetaChange(obj, old), k.validateOwnChange(obj, old)...)
		if check, ok := k.CheckPart[subresource]; ok {
			errs = append(errs, check(obj, old)...)
		}
		return errs
	}
	return k.Check(obj, old)
}
