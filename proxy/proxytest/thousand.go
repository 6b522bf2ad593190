package proxytest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/podarium/podarium/proxy"
)

// TestThousandEndpoints compares the rules when a Service with 1000 endpoints has
// come, in number and by extracts. counts are the lines which tell the number.
func (m Mode) TestThousandEndpoints(t *testing.T, counts func(rules string) string) {
	t.Helper()
	archive, err := txtar.ParseFile("../testdata/large/44-thousand-endpoints.txtar")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range archive.Files {
		files[f.Name] = string(f.Data)
	}
	Node(t)
	model, backend := proxy.NewModel("node-1", m.Family), m.New(t, ParseFlags(t, m.Family, strings.Fields(files["flags"])))
	for _, objects := range []string{kubernetesService, thousandEndpoints()} {
		if err := load(model, objects); err != nil {
			t.Fatal(err)
		}
		Sync(t, backend, model.Snapshot())
	}
	rules := m.Rules(t)
	want := files[m.Name+".txt"]
	if total := fmt.Sprintf("# total lines: %d\n%s", strings.Count(rules, "\n"), counts(rules)); !strings.HasPrefix(want, total) {
		t.Errorf("there are\n%s, want\n%s", total, want[:200])
	}
	// Each extract begins with a title; its lines come in this order.
	rest, compared := rules, 0
	for line := range strings.Lines(want) {
		if strings.HasPrefix(line, "# ") {
			rest = rules
			continue
		}
		if strings.TrimSpace(line) == "" {
			continue
		}
		_, after, found := strings.Cut(rest, line)
		if !found {
			t.Errorf("missing, or at another place: %.200s", line)
			continue
		}
		rest, compared = after, compared+1
	}
	if compared < 30 {
		t.Errorf("only %d lines were compared", compared)
	}
}

// thousandEndpoints are spread over three nodes, a hundred in a slice: 10.244.1.2,
// 10.244.2.2, 10.244.3.2, 10.244.1.3, …, 10.244.11.2 after 10.244.3.251.
func thousandEndpoints() string {
	var objects strings.Builder
	objects.WriteString(`
apiVersion: v1
kind: Service
metadata: {name: simpleservice, namespace: default}
spec:
  clusterIP: 10.96.28.255
  clusterIPs: [10.96.28.255]
  ports: [{protocol: TCP, port: 80, targetPort: 9876}]
`)
	for i := range 1000 {
		if i%100 == 0 {
			fmt.Fprintf(&objects, `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: simpleservice-s%02d, namespace: default, labels: {kubernetes.io/service-name: simpleservice}}
addressType: IPv4
ports: [{name: "", protocol: TCP, port: 9876}]
endpoints:
`, i/100)
		}
		node, number := i%3+1, i/3
		fmt.Fprintf(&objects, "- {addresses: [10.244.%d.%d], conditions: {ready: true}, nodeName: node-%d, zone: z%d}\n", node+number/250*10, number%250+2, node, node)
	}
	return objects.String()
}
