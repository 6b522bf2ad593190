package proxytest

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podarium/podarium/proxy"
)

// TestChanges tests that after many changes, each applied by itself, the rules are
// those of a proxy which has just started. The changes are the same each time.
func (m Mode) TestChanges(t *testing.T) {
	t.Helper()
	Node(t)
	flags := ParseFlags(t, m.Family, []string{"--cluster-cidr=10.244.0.0/16"})
	dice := rand.New(rand.NewPCG(1, 2))
	model := proxy.NewModel("node-1", m.Family)
	backend, services := m.New(t, flags), make([]string, 6)
	for i := range 60 {
		number := dice.IntN(len(services))
		services[number] = ""
		model.DeleteService(proxy.ServiceName{Namespace: "default", Name: fmt.Sprintf("s%d", number)})
		if dice.IntN(4) > 0 {
			services[number] = anyService(dice, number)
			if err := load(model, services[number]); err != nil {
				t.Fatal(err)
			}
		}
		if err := backend.Sync(t.Context(), model.Snapshot()); err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		if i%6 > 0 {
			continue
		}
		Sync(t, backend, model.Snapshot())
		got := m.Rules(t)
		fresh := proxy.NewModel("node-1", m.Family)
		if err := load(fresh, strings.Join(services, "")); err != nil {
			t.Fatal(err)
		}
		Sync(t, m.New(t, flags), fresh.Snapshot())
		if diff := cmp.Diff(m.Rules(t), got); diff != "" {
			t.Fatalf("after %d changes (-as if just started +ours):\n%s", i+1, diff)
		}
	}
}

// anyService is a Service of some kind with some endpoints.
func anyService(dice *rand.Rand, number int) string {
	kinds := []string{
		"",
		"sessionAffinity: ClientIP",
		"internalTrafficPolicy: Local",
		"type: NodePort",
		"type: NodePort\n  externalTrafficPolicy: Local",
		"type: LoadBalancer\n  loadBalancerSourceRanges: [10.1.0.0/16]",
		fmt.Sprintf("type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: %d", 30900+number),
	}
	kind := kinds[dice.IntN(len(kinds))]
	var object strings.Builder
	fmt.Fprintf(&object, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: default}\nspec:\n  clusterIP: 10.96.1.%d\n  ports:\n", number, number+1)
	for port := range 1 + dice.IntN(2) {
		fmt.Fprintf(&object, "  - {name: p%d, protocol: TCP, port: %d", port, 80+port)
		if strings.HasPrefix(kind, "type:") {
			fmt.Fprintf(&object, ", nodePort: %d", 30000+2*number+port)
		}
		object.WriteString("}\n")
	}
	fmt.Fprintf(&object, "  %s\n", kind)
	if strings.HasPrefix(kind, "type: LoadBalancer") {
		fmt.Fprintf(&object, "status: {loadBalancer: {ingress: [{ip: 203.0.113.%d}]}}\n", number+1)
	}
	fmt.Fprintf(&object, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%d-1, namespace: default, labels: {kubernetes.io/service-name: s%d}}\n", number, number)
	object.WriteString("addressType: IPv4\nports: [{name: p0, protocol: TCP, port: 8080}, {name: p1, protocol: TCP, port: 8081}]\nendpoints:\n")
	for e := range 4 {
		if dice.IntN(2) == 0 {
			fmt.Fprintf(&object, "- {addresses: [10.244.%d.%d], nodeName: node-%d, conditions: {ready: %v}}\n", 1+e%2, 2+e, 1+e%2, dice.IntN(4) > 0)
		}
	}
	return strings.ReplaceAll(object.String(), "endpoints:\n---", "endpoints: []\n---")
}
