package apiserver

import (
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
)

// target is what the path and the method of a request ask for:
//
//	GET    /api/v1/namespaces/default/pods/web/log   get     pods/log, core group, default, web
//	POST   /apis/apps/v1/namespaces/default/deployments   create  deployments, apps, default
//	GET    /api/v1/pods?watch=1                       watch   pods in all namespaces
//	GET    /healthz                                   get     a path that is no resource
type target struct {
	isResource  bool
	verb        string // get list watch create update patch delete deletecollection
	group       string
	version     string
	resource    string
	subresource string
	namespace   string
	name        string
	path        string
	rest        string // what follows proxy: "/index.html" of …/services/web/proxy/index.html
}

// request is an HTTP request and what it asks for. kind is nil when the resource
// is none of those that are stored.
type request struct {
	*http.Request
	target
	kind *resource.Kind

	// For the audit log: who sent the request, also when he acts as somebody
	// else, and what was decided about it.
	caller           *auth.User
	decision, reason string
}

// parseTarget reads a request. It only looks at words: whether the resource
// exists is not known here, for authorization comes first.
func parseTarget(r *http.Request) target {
	t := target{path: r.URL.Path, verb: strings.ToLower(r.Method)}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(parts) >= 3 && parts[0] == "api":
		t.version, parts = parts[1], parts[2:]
	case len(parts) >= 4 && parts[0] == "apis":
		t.group, t.version, parts = parts[1], parts[2], parts[3:]
	default:
		return t
	}
	t.isResource = true
	// /namespaces/NAME/RESOURCE… lies in a namespace; /namespaces/NAME and its
	// own subresources are about the namespace itself.
	if parts[0] == "namespaces" && len(parts) > 1 {
		t.namespace = parts[1]
		if len(parts) > 2 && parts[2] != "status" && parts[2] != "finalize" {
			parts = parts[2:]
		}
	}
	t.resource = parts[0]
	if len(parts) > 1 {
		t.name = parts[1]
	}
	if len(parts) > 2 {
		t.subresource = strings.Join(parts[2:], "/")
	}
	if len(parts) > 2 && parts[2] == "proxy" {
		t.subresource = "proxy"
		_, t.rest, _ = strings.Cut(r.URL.EscapedPath(), "/"+t.resource+"/"+parts[1]+"/proxy")
	}
	t.verb = verbOf(r, t.name)
	return t
}

func verbOf(r *http.Request, name string) string {
	switch r.Method {
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if name == "" {
			return "deletecollection"
		}
		return "delete"
	case http.MethodGet, http.MethodHead:
		if name != "" {
			return "get"
		}
		if watches(r) {
			return "watch"
		}
		return "list"
	}
	return strings.ToLower(r.Method)
}

// watches: every value but false and 0 asks for a watch.
func watches(r *http.Request) bool {
	q := r.URL.Query()
	if !q.Has("watch") {
		return false
	}
	v := q.Get("watch")
	return v != "false" && v != "0"
}

func (t target) gvr() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: t.group, Version: t.version, Resource: t.resource}
}
