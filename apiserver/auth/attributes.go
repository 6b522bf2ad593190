package auth

import (
	"errors"
	"fmt"

	"github.com/podarium/podarium/apiserver/resource"
)

// Attributes are what a decision depends on.
type Attributes struct {
	User *User
	Verb string // "get", "list", …

	// A resource of the API …
	Resource      string // with the subresource: "pods", "pods/log"
	Group         string
	Namespace     string // "" for all namespaces, or for what lies in none
	Name          string
	FieldSelector map[string]string // fields that a list asks to be equal

	// … or a plain path such as /metrics, when Resource is empty.
	Path string
}

// Objects is what authorization reads: the store's copy in memory.
type Objects interface {
	Cached(key string) (resource.Object, bool)
	CachedList(prefix, under string) []resource.Object
}

// Denied explains, in upstream's words, what the user cannot do.
func (a *Attributes) Denied() error {
	if a.Resource == "" {
		return fmt.Errorf("User %q cannot %s path %q", a.User.Name, a.Verb, a.Path)
	}
	text := fmt.Sprintf("User %q cannot %s resource %q in API group %q", a.User.Name, a.Verb, a.Resource, a.Group)
	if a.Namespace != "" {
		return errors.New(text + fmt.Sprintf(" in the namespace %q", a.Namespace))
	}
	return errors.New(text + " at the cluster scope")
}

// Authorizer decides with node authorizer and RBAC, in this order. It is safe
// for concurrent use.
type Authorizer struct {
	objects   Objects
	nodeRules []rule
}

// NewAuthorizer reads roles, bindings and pods from objects.
func NewAuthorizer(objects Objects) (*Authorizer, error) {
	rules, err := nodeRules()
	if err != nil {
		return nil, err
	}
	return &Authorizer{objects: objects, nodeRules: rules}, nil
}

// Allowed decides. reason tells why, when there is something to tell. What the
// node authorizer does not allow, a role may still: it has no opinion then.
func (z *Authorizer) Allowed(a *Attributes) (ok bool, reason string) {
	if a.User.In(GroupMasters) {
		return true, ""
	}
	refused := ""
	if node, isNode := nodeName(a.User); isNode {
		if ok, refused = z.nodeMay(node, a); ok {
			return true, refused
		}
	}
	if ok, reason = z.rbacAllows(a); ok || reason != "" {
		return ok, reason
	}
	return false, refused
}
