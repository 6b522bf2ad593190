package iptables

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy/proxytest"
)

// TestSituations: our rules must be kube-proxy's in the kernel's own words: by
// a full sync of the objects, and also step by step, over what was there
// before, where the situation has earlier states.
func TestSituations(t *testing.T) {
	for _, s := range proxytest.Situations(t) {
		t.Run(s.Name, func(t *testing.T) {
			node := newNode(t, s.Flags)
			for _, objects := range append(s.Before, s.Objects) {
				node.sync(t, objects)
			}
			if diff := cmp.Diff(s.Rules["iptables"], normalise(node.saved(t))); diff != "" {
				t.Errorf("rules differ (-kube-proxy +ours):\n%s", diff)
			}
		})
	}
}

// testNode is node-1 with a backend.
type testNode struct {
	backend *Backend
}

func newNode(t *testing.T, flags []string) *testNode {
	t.Helper()
	proxytest.Node(t)
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
	if err := n.backend.Sync(context.Background(), proxytest.Snapshot(t, objects)); err != nil {
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
