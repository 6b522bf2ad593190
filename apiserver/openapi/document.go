package openapi

import (
	"encoding/json"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/resource"
)

// V3 is the document of one group and version.
func V3(kinds []*resource.Kind, gv schema.GroupVersion, version string) ([]byte, error) {
	types, err := newSchemas(false)
	if err != nil {
		return nil, err
	}
	paths := map[string]any{}
	for _, k := range kinds {
		if k.GroupVersion == gv {
			addPaths(paths, types, k)
		}
	}
	return json.Marshal(map[string]any{
		"openapi":    "3.0.0",
		"info":       map[string]string{"title": "Kubernetes", "version": version},
		"paths":      paths,
		"components": map[string]any{"schemas": types.byName},
	})
}

// V2 is the document of all groups.
func V2(kinds []*resource.Kind, version string) ([]byte, error) {
	types, err := newSchemas(true)
	if err != nil {
		return nil, err
	}
	paths := map[string]any{}
	for _, k := range kinds {
		addPaths(paths, types, k)
	}
	return json.Marshal(map[string]any{
		"swagger":     "2.0",
		"info":        map[string]string{"title": "Kubernetes", "version": version},
		"paths":       paths,
		"definitions": types.byName,
	})
}

// addPaths describes a kind's collection and its objects. Only what clients
// look up is there: which path is which kind, and which parameters a write takes.
func addPaths(paths map[string]any, types *schemas, k *resource.Kind) {
	gvk := k.GVK()
	object := types.add(k.New(), gvk)
	list := types.add(k.NewList(), k.GroupVersion.WithKind(k.Kind+"List"))
	base := "/apis/" + k.GroupVersion.String()
	if k.GroupVersion.Group == "" {
		base = "/api/v1"
	}
	all := base + "/" + k.Plural
	collection := all
	var scope []any
	if k.Namespaced {
		collection = base + "/namespaces/{namespace}/" + k.Plural
		scope = append(scope, parameter(types, "namespace", "path", "string"))
		paths[all] = map[string]any{"get": operation(types, k.GVK(), operationID(k, "list")+"ForAllNamespaces", "list", list, "")}
	}
	paths[collection] = map[string]any{
		"get":        operation(types, k.GVK(), operationID(k, "list"), "list", list, ""),
		"post":       operation(types, k.GVK(), operationID(k, "post"), "post", object, object),
		"delete":     operation(types, k.GVK(), operationID(k, "deletecollection"), "deletecollection", "", ""),
		"parameters": scope,
	}
	item, named := collection+"/{name}", append(scope, parameter(types, "name", "path", "string"))
	paths[item] = map[string]any{
		"get":        operation(types, k.GVK(), operationID(k, "get"), "get", object, ""),
		"put":        operation(types, k.GVK(), operationID(k, "put"), "put", object, object),
		"patch":      operation(types, k.GVK(), operationID(k, "patch"), "patch", object, ""),
		"delete":     operation(types, k.GVK(), operationID(k, "delete"), "delete", "", ""),
		"parameters": named,
	}
	for _, part := range k.Parts() {
		paths[item+"/"+part.Name] = partOperations(types, k, part, named)
	}
}

// methods are the HTTP methods of verbs.
var methods = map[string]string{"get": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}

// partOperations describes a path below an object: status, scale, exec. What
// leads to a container or a Service is neither read nor written, but connected.
func partOperations(types *schemas, k *resource.Kind, part resource.Subresource, parameters []any) map[string]any {
	operations := map[string]any{"parameters": parameters}
	gvk := part.GVK(k)
	connects := strings.HasSuffix(part.Kind, "Options")
	model := ""
	if !connects && part.Name != "log" { // a log is text
		model = types.named(gvk)
	}
	for _, verb := range part.Verbs {
		method := methods[verb]
		action, body := method, ""
		if connects {
			action = "connect"
		}
		if method == "post" || method == "put" {
			body = model
		}
		id := operationID(k, method) + strings.ToUpper(part.Name[:1]) + part.Name[1:]
		operations[method] = operation(types, gvk, id, action, model, body)
	}
	return operations
}

func operation(types *schemas, gvk schema.GroupVersionKind, id, action, answer, body string) map[string]any {
	parameters := []any{parameter(types, "pretty", "query", "string")}
	switch action {
	case "post", "put", "patch":
		for _, name := range []string{"dryRun", "fieldManager", "fieldValidation"} {
			parameters = append(parameters, parameter(types, name, "query", "string"))
		}
		if action == "patch" {
			parameters = append(parameters, parameter(types, "force", "query", "boolean"))
		}
	case "list":
		for _, name := range []string{"continue", "fieldSelector", "labelSelector", "resourceVersion", "resourceVersionMatch"} {
			parameters = append(parameters, parameter(types, name, "query", "string"))
		}
		parameters = append(parameters, parameter(types, "limit", "query", "integer"), parameter(types, "watch", "query", "boolean"))
	}
	op := map[string]any{
		"operationId":                     id,
		"x-kubernetes-action":             action,
		"x-kubernetes-group-version-kind": nameOf(gvk),
	}
	ok := map[string]any{"description": "OK"}
	if types.v2 {
		if answer != "" {
			ok["schema"] = &Schema{Ref: answer}
		}
		if body != "" {
			parameters = append(parameters, map[string]any{"name": "body", "in": "body", "required": true, "schema": &Schema{Ref: body}})
		}
		op["consumes"], op["produces"] = []string{"*/*"}, []string{"application/json"}
	} else {
		if answer != "" {
			ok["content"] = content(answer)
		}
		if body != "" {
			op["requestBody"] = map[string]any{"required": true, "content": content(body)}
		}
	}
	op["parameters"], op["responses"] = parameters, map[string]any{"200": ok}
	return op
}

func operationID(k *resource.Kind, action string) string {
	group := "Core"
	if g, _, _ := strings.Cut(k.GroupVersion.Group, "."); g != "" {
		group = strings.ToUpper(g[:1]) + g[1:]
	}
	return action + group + "V1" + k.Kind
}

func content(ref string) map[string]any {
	return map[string]any{"application/json": map[string]any{"schema": &Schema{Ref: ref}}}
}

func parameter(types *schemas, name, in, kind string) map[string]any {
	p := map[string]any{"name": name, "in": in}
	if in == "path" {
		p["required"] = true
	}
	if types.v2 {
		p["type"] = kind
	} else {
		p["schema"] = &Schema{Type: kind}
	}
	return p
}
