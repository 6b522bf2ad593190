package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestStreams wants the real server's events and lists, field by field: what a
// watch begins with and how its beginning ends, what a selector makes of a
// change, what a page, a list of metadata and YAML look like.
func TestStreams(t *testing.T) {
	data, err := os.ReadFile("testdata/streams.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []struct {
		Name, Path, ContentType string
		Headers                 map[string]string
		Answer                  any
	}
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	c := startServer(t)
	for _, d := range list {
		path := d.Path
		switch d.Name { // those watch what was done to a Service, from before it was
		case "watch-added-modified-deleted":
			path = from(t, path, livedOnce(t, c, "w1", "10.96.77.1", `{}`, `{"a":"b"}`))
		case "watch-label-selector-leaves-and-enters":
			path = from(t, path, livedOnce(t, c, "w2", "10.96.77.2", `{"k":"v"}`, `{"k":"x"}`, `{"k":"v"}`))
		}
		t.Run(d.Name, func(t *testing.T) {
			got, contentType := ask(t, c, path, d.Headers, d.Answer)
			if contentType != d.ContentType {
				t.Errorf("content type %s, want %s", contentType, d.ContentType)
			}
			if diff := cmp.Diff(d.Answer, got, cmp.Comparer(masked), notDescriptions); diff != "" {
				t.Errorf("(- Kubernetes, + ours)\n%s", diff)
			}
		})
	}
}

// notDescriptions leaves the texts about a table's columns alone.
var notDescriptions = cmpopts.IgnoreMapEntries(func(key string, _ any) bool { return key == "description" })

// ask reads an answer in the form of want: as many events as there are, an
// object, or a text.
func ask(t *testing.T, c *cluster, path string, headers map[string]string, want any) (any, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range headers {
		req.Header.Set(k, v)
	}
	resp, err := c.http("kubernetes-admin", []string{"system:masters"}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	contentType := resp.Header.Get("Content-Type")
	if _, isText := want.(string); isText {
		body, _ := io.ReadAll(resp.Body)
		return string(body), contentType
	}
	in := json.NewDecoder(resp.Body)
	next := func() (v any) {
		if err := in.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	events, isStream := want.([]any)
	if !isStream {
		return next(), contentType
	}
	got := []any{}
	for range events {
		got = append(got, next())
	}
	return got, contentType
}

// livedOnce creates a Service, gives it other labels and deletes it. It returns
// the resourceVersion of before.
func livedOnce(t *testing.T, c *cluster, name, ip string, labels ...string) string {
	t.Helper()
	before, err := c.admin().CoreV1().Services("default").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	client := c.http("kubernetes-admin", []string{"system:masters"})
	all := c.url + "/api/v1/namespaces/default/services"
	send := func(method, url, body string) {
		t.Helper()
		req, _ := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader([]byte(body)))
		req.Header.Set("User-Agent", "")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode >= 300 {
			t.Fatalf("%s %s: %d", method, url, resp.StatusCode)
		}
	}
	for i, l := range labels {
		body := fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":%q,"labels":%s},"spec":{"clusterIP":%q,"ports":[{"port":80}]}}`, name, l, ip)
		if i == 0 {
			send(http.MethodPost, all, body)
			continue
		}
		send(http.MethodPut, all+"/"+name, body)
	}
	send(http.MethodDelete, all+"/"+name, "")
	return before.ResourceVersion
}

// from sets the resourceVersion of a path.
func from(t *testing.T, path, version string) string {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("resourceVersion", version)
	u.RawQuery = q.Encode()
	return u.String()
}
