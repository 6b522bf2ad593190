package nftables

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// TestSituations: our table must be kube-proxy's in the kernel's own words.
func TestSituations(t *testing.T) {
	t.Run("nftables", testMode("nftables", corev1.IPv4Protocol).TestSituations)
	t.Run("nftables-ip6", testMode("nftables-ip6", corev1.IPv6Protocol).TestSituations)
}

func TestChanges(t *testing.T) { testMode("nftables", corev1.IPv4Protocol).TestChanges(t) }

func testMode(name string, family corev1.IPFamily) proxytest.Mode {
	return proxytest.Mode{
		Name: name, Family: family,
		New: func(t *testing.T, flags proxytest.Flags) proxy.Backend {
			t.Helper()
			return newBackend(family, flags)
		},
		Rules: func(t *testing.T) string {
			t.Helper()
			return ruleset(t, Config{Family: family}.family())
		},
	}
}

func newBackend(f corev1.IPFamily, flags proxytest.Flags) *Backend {
	cfg := Config{
		Family: f, MasqueradeBit: 14, LocalPods: flags.LocalPods, MasqueradeAll: flags.MasqueradeAll,
		NodePortAddresses: flags.NodePortAddresses,
	}
	if f == corev1.IPv4Protocol {
		cfg.NodeIP = netip.MustParseAddr("192.168.56.11")
		cfg.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}
	}
	return New(cfg)
}

// ruleset is `nft list ruleset`, made comparable: sets, maps and chains by kind
// and name, elements in order.
func ruleset(t *testing.T, f family) string {
	t.Helper()
	var head, blocks []string
	var block strings.Builder
	for line := range strings.Lines(nstest.Run(t, "nft", "list", "table", f.ip, table)) {
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
