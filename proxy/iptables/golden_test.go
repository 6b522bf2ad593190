package iptables

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
)

var update = flag.Bool("update", false, "write the rules of testdata/own-*.txtar anew; kube-proxy's own (all others) are never written")

// kubernetesService is in every cluster.
const kubernetesService = `
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1]
  ports: [{name: https, protocol: TCP, port: 443, targetPort: 6443}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kubernetes
  namespace: default
  labels: {kubernetes.io/service-name: kubernetes}
addressType: IPv4
endpoints: [{addresses: [192.168.56.11], conditions: {ready: true}}]
ports: [{name: https, protocol: TCP, port: 6443}]
`

// TestSituations: each file in testdata is a cluster, and the rules which
// kube-proxy 1.36.2 has for it on node-1 (192.168.56.11, zone z1). Ours must
// be the same in the kernel's own words: a full sync of the objects, and also
// step by step, over what was there before, where the file has earlier states.
func TestSituations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d situations: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { situation(t, file) })
	}
}

func situation(t *testing.T, file string) {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	section := func(name string) string {
		for _, f := range archive.Files {
			if f.Name == name {
				return string(f.Data)
			}
		}
		return ""
	}
	node := newNode(t, strings.Fields(section("flags")))
	for _, f := range archive.Files {
		if strings.HasPrefix(f.Name, "objects-before") {
			node.sync(t, string(f.Data))
		}
	}
	node.sync(t, section("objects.yaml"))
	got, want := normalise(node.saved(t)), section("iptables.txt")
	if *update && strings.HasPrefix(filepath.Base(file), "own-") {
		for i := range archive.Files {
			if archive.Files[i].Name == "iptables.txt" {
				archive.Files[i].Data = []byte(got)
			}
		}
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules differ (-kube-proxy +ours):\n%s", diff)
	}
}

// testNode is node-1 with a backend.
type testNode struct {
	backend *Backend
}

func newNode(t *testing.T, flags []string) *testNode {
	t.Helper()
	nstest.Enter(t)
	nstest.Run(t, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire")
	nstest.Run(t, "ip", "addr", "add", "192.168.56.11/24", "dev", "eth0")
	cfg := Config{MasqueradeBit: 14, LocalhostNodePorts: true, NodeIP: netip.MustParseAddr("192.168.56.11")}
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "--cluster-cidr":
			cfg.LocalPods = netip.MustParsePrefix(value)
		case "--detect-local-mode": // NodeCIDR: node-1's own
			cfg.LocalPods = netip.MustParsePrefix("10.244.1.0/24")
		case "--masquerade-all":
			cfg.MasqueradeAll = true
		case "--iptables-localhost-nodeports":
			cfg.LocalhostNodePorts = value == "true"
		case "--nodeport-addresses":
			cfg.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix(value)}
		default:
			t.Fatalf("flag %q is not known to this test", flag)
		}
	}
	backend, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &testNode{backend}
}

func (n *testNode) sync(t *testing.T, objects string) {
	t.Helper()
	model := proxy.NewModel("node-1")
	model.SetZone("z1")
	load(t, model, kubernetesService)
	load(t, model, objects)
	if err := n.backend.Sync(context.Background(), model.Snapshot()); err != nil {
		t.Fatal(err)
	}
}

func (n *testNode) saved(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, table := range []string{"nat", "filter", "mangle"} {
		saved, err := iptables.Save(context.Background(), table)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(saved)
	}
	return all.String()
}

func load(t *testing.T, model *proxy.Model, documents string) {
	t.Helper()
	reader := yaml.NewDocumentDecoder(io.NopCloser(strings.NewReader(documents)))
	for {
		buf := make([]byte, 1<<20)
		n, err := reader.Read(buf)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(bytes.TrimSpace(withoutComments(buf[:n]))) == 0 {
			continue
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(buf[:n], nil, nil)
		if err != nil {
			t.Fatalf("decode %s: %v", buf[:n], err)
		}
		switch o := object.(type) {
		case *corev1.Service:
			model.SetService(o)
		case *discoveryv1.EndpointSlice:
			model.SetSlice(o)
		default:
			t.Fatalf("a %T is not for a proxy", o)
		}
	}
}

func withoutComments(document []byte) []byte {
	return regexp.MustCompile(`(?m)^#.*$`).ReplaceAll(document, nil)
}

// dispatchChains have no order of their own: kube-proxy writes their rules as
// its map of Services comes.
var dispatchChains = []string{"KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-PROXY-FIREWALL"}

// normalise makes the output of iptables-save comparable: only what has to do
// with KUBE- chains, chains by name, dispatch chains by Service.
func normalise(saved string) string {
	var out strings.Builder
	for table := range strings.SplitSeq(saved, "COMMIT\n") {
		var name string
		chains, rules := []string{}, map[string][]string{}
		for line := range strings.Lines(table) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "*"):
				name = line
			case strings.HasPrefix(line, ":KUBE-"):
				chains = append(chains, strings.Fields(line)[0]+" - [0:0]")
			case strings.HasPrefix(line, "-A "):
				chain := strings.Fields(line)[1]
				if strings.HasPrefix(chain, "KUBE-") || regexp.MustCompile(`-[jg] KUBE-`).MatchString(line) {
					rules[chain] = append(rules[chain], line)
				}
			}
		}
		if len(chains) == 0 && len(rules) == 0 {
			continue
		}
		slices.Sort(chains)
		out.WriteString(name + "\n" + strings.Join(chains, "\n") + "\n")
		for _, chain := range sortedKeys(rules) {
			if slices.Contains(dispatchChains, chain) {
				sortDispatch(rules[chain])
			}
			out.WriteString(strings.Join(rules[chain], "\n") + "\n")
		}
		out.WriteString("COMMIT\n")
	}
	return out.String()
}

func sortedKeys(m map[string][]string) []string {
	keys := []string{}
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

var firstWord = regexp.MustCompile(`--comment "?([^" ]+)`)

func sortDispatch(rules []string) {
	key := func(rule string) string {
		if strings.Contains(rule, "-j KUBE-NODEPORTS") {
			return "\xff" // stays last
		}
		if m := firstWord.FindStringSubmatch(rule); m != nil {
			return m[1]
		}
		return ""
	}
	slices.SortStableFunc(rules, func(a, b string) int { return strings.Compare(key(a), key(b)) })
}
