package openapi

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/podarium/podarium/apiserver/resource"
)

// How upstream's document says that lists are merged, one of each sort.
func TestMergeRules(t *testing.T) {
	text, err := V2(resource.Kinds, "v1")
	if err != nil {
		t.Fatal(err)
	}
	var doc struct{ Definitions map[string]Schema }
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		model, field, listType, mapType string
		keys                            []string
	}{
		{"io.k8s.api.core.v1.ServiceSpec", "ports", "map", "", []string{"port", "protocol"}},
		{"io.k8s.api.core.v1.ServiceSpec", "clusterIPs", "atomic", "", nil},
		{"io.k8s.api.core.v1.ServiceSpec", "selector", "", "atomic", nil},
		{"io.k8s.api.core.v1.PodSpec", "containers", "map", "", []string{"name"}},
		{"io.k8s.api.core.v1.PodSpec", "nodeSelector", "", "atomic", nil},
		{"io.k8s.api.core.v1.Container", "command", "atomic", "", nil},
		{"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers", "set", "", nil},
		{"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "labels", "", "", nil},
		{"io.k8s.api.discovery.v1.EndpointSlice", "endpoints", "atomic", "", nil},
	} {
		got := doc.Definitions[want.model].Properties[want.field]
		if got == nil {
			t.Errorf("%s has no %s", want.model, want.field)
			continue
		}
		if got.ListType != want.listType || got.MapType != want.mapType || !slices.Equal(got.ListKeys, want.keys) {
			t.Errorf("%s.%s: list %q, map %q, keys %v", want.model, want.field, got.ListType, got.MapType, got.ListKeys)
		}
	}
	if got := doc.Definitions["io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"].MapType; got != "atomic" {
		t.Errorf("LabelSelector: map type %q", got)
	}
}
