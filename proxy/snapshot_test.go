package proxy

import (
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// TestChanged: of 20 Services some come, go or get other endpoints, again and
// again; what Changed says is what the two lists of pointers say.
func TestChanged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	model := NewModel("node-1", corev1.IPv4Protocol)
	before := model.Snapshot()
	for round := range 500 {
		for range random.IntN(4) {
			number := 1 + random.IntN(20)
			service := labelled("services", number, "").(*corev1.Service)
			endpoints := labelled("endpointslices", number, "").(*discoveryv1.EndpointSlice)
			switch random.IntN(4) {
			case 0:
				model.DeleteService(ServiceName{service.Namespace, service.Name})
			case 1:
				model.DeleteSlice(endpoints)
			case 2:
				model.SetSlice(endpoints)
			case 3:
				model.SetService(service)
			}
		}
		after := model.Snapshot()
		gone, come := Changed(before, after)
		if !slices.Equal(gone, without(before, after)) || !slices.Equal(come, without(after, before)) {
			t.Fatalf("round %d: gone %d, come %d; want %d and %d", round, len(gone), len(come), len(without(before, after)), len(without(after, before)))
		}
		before = after
	}
}

// without are the ports of one snapshot that another has not.
func without(some, others *Snapshot) []*Port {
	var list []*Port
	for _, p := range some.Ports {
		if !slices.Contains(others.Ports, p) {
			list = append(list, p)
		}
	}
	return list
}
