package iptables

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// TestSituations: our rules must be kube-proxy's in the kernel's own words.
func TestSituations(t *testing.T) {
	t.Run("iptables", testMode("iptables", corev1.IPv4Protocol, iptables.IPv4).TestSituations)
	t.Run("ip6tables", testMode("ip6tables", corev1.IPv6Protocol, iptables.IPv6).TestSituations)
}

func TestChanges(t *testing.T) {
	testMode("iptables", corev1.IPv4Protocol, iptables.IPv4).TestChanges(t)
}

func testMode(name string, family corev1.IPFamily, tool iptables.Tool) proxytest.Mode {
	return proxytest.Mode{
		Name: name, Family: family,
		New: func(t *testing.T, flags proxytest.Flags) proxy.Backend {
			t.Helper()
			return newBackend(t, family, flags)
		},
		Rules: func(t *testing.T) string {
			t.Helper()
			return normalise(saved(t, tool))
		},
	}
}

func newBackend(t *testing.T, family corev1.IPFamily, flags proxytest.Flags) *Backend {
	t.Helper()
	cfg := Config{
		Family: family, MasqueradeBit: 14, LocalPods: flags.LocalPods, MasqueradeAll: flags.MasqueradeAll,
		LocalhostNodePorts: flags.LocalhostNodePorts, NodePortAddresses: flags.NodePortAddresses,
	}
	if family == corev1.IPv4Protocol {
		cfg.NodeIP = netip.MustParseAddr("192.168.56.11")
	}
	backend, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return backend
}

// testNode is node-1 with a backend.
type testNode struct {
	backend *Backend
}

func newNode(t *testing.T, flags []string) *testNode {
	t.Helper()
	proxytest.Node(t)
	return &testNode{newBackend(t, corev1.IPv4Protocol, proxytest.ParseFlags(t, corev1.IPv4Protocol, flags))}
}

func (n *testNode) sync(t *testing.T, objects string) {
	t.Helper()
	if err := n.backend.Sync(context.Background(), proxytest.Snapshot(t, objects)); err != nil {
		t.Fatal(err)
	}
}

func (n *testNode) saved(t *testing.T) string {
	t.Helper()
	return saved(t, iptables.IPv4)
}

func saved(t *testing.T, tool iptables.Tool) string {
	t.Helper()
	var all strings.Builder
	for _, table := range []string{"nat", "filter", "mangle"} {
		saved, err := tool.Save(context.Background(), table)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(saved)
	}
	return all.String()
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
