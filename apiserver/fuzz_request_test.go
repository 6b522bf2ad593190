package apiserver

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// Whatever the path is, it is taken apart into words that say no more than it
// does, and a key that is made of them stays below its table.
func FuzzPath(f *testing.F) {
	for _, path := range []string{
		"/api/v1/namespaces/default/pods/web/log", "/apis/apps/v1/deployments", "/api/v1/namespaces/x/finalize", "/api/v1/nodes/n/proxy/a%2fb",
		"/", "//", "/api", "/apis//v1/x", "/api/v1/namespaces//pods", "/api/v1/namespaces/../secrets/..", "/api/v1/pods/%2e%2e", "/api/v1/services/a/proxy", "/healthz/ping",
	} {
		f.Add(http.MethodGet, path, "watch=1")
		f.Add(http.MethodDelete, path, "")
	}
	f.Fuzz(func(t *testing.T, method, path, query string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || strings.ContainsAny(method, " \r\n") || method == "" {
			return
		}
		u.RawQuery = query
		r := &http.Request{Method: method, URL: u, Header: http.Header{}}
		target := parseTarget(r)
		if target.isResource && (strings.Contains(target.name, "/") || strings.Contains(target.namespace, "/")) {
			t.Errorf("%s ─▶ %+v", path, target)
		}
		if key := resource.Pod.Key(target.namespace, target.name); !strings.HasPrefix(key, resource.Pod.Prefix) {
			t.Errorf("key %s", key)
		}
		attributesOf(&request{Request: r, target: target}, nil)
	})
}

// Whatever the parameters of a list or watch are, they are understood or
// refused, and a selector that is understood can be asked.
func FuzzListOptions(f *testing.F) {
	for _, query := range []string{
		"labelSelector=a%3Db,c!%3Dd,e+in+(f,g),!h&fieldSelector=metadata.name%3Dx,spec.nodeName!%3Dy", "limit=5&continue=abc", "resourceVersion=0&resourceVersionMatch=Exact",
		"sendInitialEvents=true&resourceVersionMatch=NotOlderThan", "timeoutSeconds=-1", "limit=99999999999999999999", "fieldSelector=%5C%3D%3D,", "labelSelector=((",
	} {
		f.Add(query, false)
		f.Add(query, true)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: "default", Labels: map[string]string{"a": "b"}}}
	f.Fuzz(func(_ *testing.T, query string, watch bool) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		o, err := listOptionsOf(q, watch)
		if err != nil {
			return
		}
		equalFields(q.Get("fieldSelector"))
		if match, err := newMatcher(resource.Pod, o); err == nil {
			match.matches(pod)
		}
	})
}

// A continue token of somebody's own making names no key outside the store.
func FuzzContinue(f *testing.F) {
	f.Add(continueToken{Revision: 5, Start: "/registry/pods/default/web"}.String())
	f.Add("eyJ2IjoicG9kYXJpdW0vdjEiLCJydiI6MSwic3RhcnQiOiIvIn0")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := parseContinue(text)
		if err != nil {
			return
		}
		if token.Revision <= 0 || !strings.HasPrefix(token.Start, store.Root) {
			t.Errorf("%q ─▶ %+v", text, token)
		}
	})
}

// Whatever is applied, merging it into a Deployment ends in an object or an
// error.
func FuzzApply(f *testing.F) {
	for _, body := range []string{
		"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 3}", `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":null}}`,
		"spec: {template: {spec: {containers: [{name: c, ports: [{containerPort: 80}, {containerPort: 80}]}]}}}", "[]", "a: &a [*a]", "",
	} {
		f.Add([]byte(body), true)
	}
	labels := map[string]string{"app": "web"}
	live := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "default", ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "a", Operation: "Update", APIVersion: "apps/v1", FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{"f:replicas":{}}}`),
		}}},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}},
	}
	live.SetGroupVersionKind(resource.Deployment.GVK())
	var managers fieldManagers
	manager, err := managers.of(resource.Deployment, "")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, body []byte, force bool) {
		wanted := &unstructured.Unstructured{}
		if yaml.Unmarshal(body, &wanted.Object) != nil {
			return
		}
		merged, err := manager.Apply(live.DeepCopy(), wanted, "fuzz", force)
		if err != nil {
			return
		}
		if obj, err := asKind(resource.Deployment, merged); err == nil {
			resource.Deployment.ApplyDefaults(obj)
			resource.Deployment.Check(obj, live)
		}
	})
}

// Whatever the patch of a Scale is.
func FuzzScale(f *testing.F) {
	for _, body := range []string{`{"spec":{"replicas":3}}`, `[{"op":"replace","path":"/spec/replicas","value":-1}]`, `{"spec":null}`, `null`, `{"spec":{"replicas":1e99}}`} {
		for _, kind := range []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType} {
			f.Add(string(kind), []byte(body))
		}
	}
	f.Fuzz(func(_ *testing.T, patchType string, body []byte) {
		if checkPatch(types.PatchType(patchType), body) == nil {
			_, _ = patchedScale(&autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 1}}, types.PatchType(patchType), body)
		}
	})
}

// Whatever a client accepts, it gets a format there is, or a refusal.
func FuzzAccept(f *testing.F) {
	for _, accept := range []string{"", "*/*", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "application/vnd.kubernetes.protobuf", "text/html", ";;,=", "application/json;as=X;v=v1;g=meta.k8s.io"} {
		f.Add(accept)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Accept"] = []string{accept}
		wantsAggregated(r)
		if format, err := negotiate(r); err == nil && format.info.Serializer == nil {
			t.Errorf("%q: no serializer", accept)
		}
	})
}
