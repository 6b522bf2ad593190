package nftables

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy/proxytest"
)

// TestSituations: our table must be kube-proxy's in the kernel's own words: by
// a full sync of the objects, step by step over what was there before, and
// after a restart that knows nothing.
func TestSituations(t *testing.T) {
	for _, s := range proxytest.Situations(t) {
		t.Run(s.Name, func(t *testing.T) {
			node := newNode(t, s.Flags)
			for _, objects := range append(s.Before, s.Objects) {
				node.sync(t, objects)
			}
			if diff := cmp.Diff(s.Rules["nftables"], ruleset(t)); diff != "" {
				t.Errorf("rules differ (-kube-proxy +ours):\n%s", diff)
			}
			node.backend = New(node.backend.cfg)
			node.sync(t, s.Objects)
			if diff := cmp.Diff(s.Rules["nftables"], ruleset(t)); diff != "" {
				t.Errorf("rules differ after a restart (-kube-proxy +ours):\n%s", diff)
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
	cfg := Config{
		MasqueradeBit: 14,
		NodeIP:        netip.MustParseAddr("192.168.56.11"),
		ServiceCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
	}
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "--cluster-cidr":
			cfg.LocalPods = netip.MustParsePrefix(value)
		case "--detect-local-mode": // NodeCIDR: node-1's own
			cfg.LocalPods = netip.MustParsePrefix("10.244.1.0/24")
		case "--masquerade-all":
			cfg.MasqueradeAll = true
		case "--iptables-localhost-nodeports": // means nothing in this mode
		case "--nodeport-addresses":
			cfg.NodePortAddresses = []netip.Prefix{netip.MustParsePrefix(value)}
		default:
			t.Fatalf("flag %q is not known to this test", flag)
		}
	}
	return &testNode{New(cfg)}
}

func (n *testNode) sync(t *testing.T, objects string) {
	t.Helper()
	if err := n.backend.Sync(context.Background(), proxytest.Snapshot(t, objects)); err != nil {
		t.Fatal(err)
	}
}

// ruleset is `nft list ruleset`, made comparable: sets, maps and chains by kind
// and name, elements in order.
func ruleset(t *testing.T) string {
	t.Helper()
	var head, blocks []string
	var block strings.Builder
	for line := range strings.Lines(nstest.Run(t, "nft", "list", "table", "ip", table)) {
		switch {
		case block.Len() > 0:
			block.WriteString(line)
			if line == "\t}\n" {
				blocks = append(blocks, normaliseBlock(block.String()))
				block.Reset()
			}
		case blockStart.MatchString(line):
			block.WriteString(line)
		case strings.TrimSpace(line) != "" && line != "}\n":
			head = append(head, line)
		}
	}
	slices.SortFunc(blocks, func(a, b string) int { return strings.Compare(blockKey(a), blockKey(b)) })
	return strings.Join(head, "") + strings.Join(blocks, "\n") + "}\n"
}

var (
	blockStart = regexp.MustCompile(`^\t(set|map|chain) (\S+)`)
	elements   = regexp.MustCompile(`(?s)\t\telements = \{(.*?)\}\n`)
	spaces     = regexp.MustCompile(`\s+`)
)

func blockKey(block string) string {
	m := blockStart.FindStringSubmatch(block)
	return map[string]string{"set": "0", "map": "1", "chain": "3"}[m[1]] + m[2]
}

func normaliseBlock(block string) string {
	m := elements.FindStringSubmatch(block)
	if m == nil || strings.HasPrefix(block, "\tchain") {
		return block
	}
	var list []string
	for element := range strings.SplitSeq(m[1], ",") {
		list = append(list, spaces.ReplaceAllString(strings.TrimSpace(element), " "))
	}
	slices.Sort(list)
	return strings.Replace(block, m[0], "\t\telements = { "+strings.Join(list, ",\n\t\t\t     ")+" }\n", 1)
}
