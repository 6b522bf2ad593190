package openapi

import (
	"encoding/json"
	"testing"

	"github.com/podarium/podarium/apiserver/resource"
)

// Clients look up which path is which kind, and what is done there.
func TestPaths(t *testing.T) {
	text, err := V2(resource.Kinds, "v1")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	const pod, deployment = "/api/v1/namespaces/{namespace}/pods/{name}", "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
	for _, want := range []struct{ path, method, id, action, kind, answer string }{
		{"/api/v1/pods", "get", "listCoreV1PodForAllNamespaces", "list", "Pod", "io.k8s.api.core.v1.PodList"},
		{pod, "put", "putCoreV1Pod", "put", "Pod", "io.k8s.api.core.v1.Pod"},
		{pod + "/status", "patch", "patchCoreV1PodStatus", "patch", "Pod", "io.k8s.api.core.v1.Pod"},
		{pod + "/eviction", "post", "postCoreV1PodEviction", "post", "Eviction", "io.k8s.api.policy.v1.Eviction"},
		{pod + "/exec", "get", "getCoreV1PodExec", "connect", "PodExecOptions", ""},
		{pod + "/log", "get", "getCoreV1PodLog", "get", "Pod", ""},
		{deployment + "/scale", "put", "putAppsV1DeploymentScale", "put", "Scale", "io.k8s.api.autoscaling.v1.Scale"},
		{"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", "post", "postCoreV1ServiceAccountToken", "post", "TokenRequest", "io.k8s.api.authentication.v1.TokenRequest"},
		{"/api/v1/nodes/{name}/proxy", "delete", "deleteCoreV1NodeProxy", "connect", "NodeProxyOptions", ""},
	} {
		var got struct {
			OperationID string
			Action      string   `json:"x-kubernetes-action"`
			Kind        kindName `json:"x-kubernetes-group-version-kind"`
			Responses   map[string]struct{ Schema Schema }
		}
		if err := json.Unmarshal(doc.Paths[want.path][want.method], &got); err != nil {
			t.Errorf("%s %s: %v", want.method, want.path, err)
			continue
		}
		answer := ""
		if want.answer != "" {
			answer = "#/definitions/" + want.answer
		}
		if got.OperationID != want.id || got.Action != want.action || got.Kind.Kind != want.kind || got.Responses["200"].Schema.Ref != answer {
			t.Errorf("%s %s: %+v", want.method, want.path, got)
		}
	}
	if _, ok := doc.Paths[pod+"/binding"]["get"]; ok {
		t.Error("a binding can be read")
	}
}
