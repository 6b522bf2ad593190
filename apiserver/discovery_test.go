package apiserver

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// notOffered are the groups and resources that Kubernetes 1.36 has and Podarium
// has not.
var notOffered = map[string]bool{
	"admissionregistration.k8s.io": true, "apiextensions.k8s.io": true, "autoscaling": true, "flowcontrol.apiserver.k8s.io": true,
	"node.k8s.io": true, "storage.k8s.io": true, "resource.k8s.io": true,

	"componentstatuses": true, "limitranges": true, "persistentvolumeclaims": true, "persistentvolumes": true,
	"podtemplates": true, "resourcequotas": true, "cronjobs": true, "pods/resize": true,
}

// TestDiscovery wants every document of discovery to be the real server's, but
// for what is not offered: names, short names, categories, verbs, subresources,
// and their order.
func TestDiscovery(t *testing.T) {
	data, err := os.ReadFile("testdata/discovery.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Path, Accept, ContentType string
		Answer                    map[string]any
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	c := startServer(t)
	client := c.http("kubernetes-admin", []string{"system:masters"})
	for _, d := range list {
		t.Run(d.Path+" "+d.Accept, func(t *testing.T) {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+d.Path, nil)
			req.Header.Set("Accept", d.Accept)
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			var got map[string]any
			if err := json.Unmarshal(body, &got); err != nil {
				t.Fatalf("%v: %s", err, short(body))
			}
			if h := resp.Header.Get("Content-Type"); h != d.ContentType {
				t.Errorf("content type %s, want %s", h, d.ContentType)
			}
			if diff := cmp.Diff(offered(d.Answer), got); diff != "" {
				t.Errorf("(- Kubernetes, + ours)\n%s", diff)
			}
		})
	}
}

// offered leaves out of a document what is not offered.
func offered(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			v[key] = offered(child)
		}
	case []any:
		kept := []any{}
		for _, item := range v {
			if !notOffered[nameIn(item)] {
				kept = append(kept, offered(item))
			}
		}
		return kept
	}
	return v
}

// nameIn is the name of a group or resource, in each of discovery's forms; a
// subresource goes with its resource.
func nameIn(item any) string {
	m, _ := item.(map[string]any)
	name, _ := m["name"].(string)
	if resource, ok := m["resource"].(string); ok {
		name = resource
	}
	if meta, ok := m["metadata"].(map[string]any); ok && name == "" {
		name, _ = meta["name"].(string)
	}
	if subresource, ok := m["subresource"].(string); ok {
		return "pods/" + subresource
	}
	if notOffered[name] {
		return name
	}
	name, _, _ = strings.Cut(name, "/")
	return name
}
