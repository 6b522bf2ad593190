package matrix

import (
	"flag"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

var modes = flag.String("modes", "iptables,nftables,userspace", "proxy modes to test, in a list; ipvs needs a kernel that has it")

// kernel is the modes in which a rule carries the packet: all of them but
// userspace must do the same.
const kernel = "kernel"

// row is a feature: the cluster, who is asked, and by mode what comes back. The
// cells of a mode's own name go before those of kernel, and those of IPv6 before
// both.
type row struct {
	name     string // "F1 ClusterIP, TCP": begins with the row of what a proxy must do
	flags    flags
	service  *corev1.Service // nil: as in the row before
	slice    *discoveryv1.EndpointSlice
	to       string // "tcp 10.96.0.20:80"
	expected map[string]cells
}

func allRows() []row {
	return slices.Concat(addressRows(), policyRows(), refusalRows())
}

// of is the row's expectation for a mode.
func (r *row) of(mode string, family family) (cells, bool) {
	if c, ok := r.expected[string(family)]; ok {
		return c, ok
	}
	if c, ok := r.expected[mode]; ok || mode == "userspace" {
		return c, ok
	}
	c, ok := r.expected[kernel]
	return c, ok
}

// TestNoCellIsMissing: every mode, every row, everybody who asks.
func TestNoCellIsMissing(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range allRows() {
		if seen[r.name] {
			t.Errorf("%s: two rows of this name", r.name)
		}
		seen[r.name] = true
		for _, mode := range []string{"iptables", "nftables", "ipvs", "userspace"} {
			for _, family := range families(mode) {
				c, ok := r.of(mode, family)
				for i, column := range columns {
					if !ok || c[i] == "" {
						t.Errorf("%s: nothing is expected in mode %s with %s from %s", r.name, mode, family, column.name)
					}
				}
			}
		}
	}
	for _, feature := range features {
		if !slices.ContainsFunc(allRows(), func(r row) bool { return strings.HasPrefix(r.name, feature) }) {
			t.Errorf("no row begins with %q", feature)
		}
	}
}

// TestMatrix is the matrix, with real packets.
func TestMatrix(t *testing.T) {
	for mode := range strings.SplitSeq(*modes, ",") {
		for _, family := range families(mode) {
			t.Run(mode+"/"+string(family), func(t *testing.T) {
				t.Parallel()
				testMode(t, mode, family)
			})
		}
	}
}

func testMode(t *testing.T, mode string, family family) {
	t.Helper()
	n := newNetwork(t)
	for _, p := range pods {
		serve(t, n[p.name].Path(), p.name, family.of(p.ip), mainPort, secondPort)
		serveSCTP(t, n[p.name].Path(), p.name, family.of(p.ip), mainPort)
	}
	serve(t, n["world"].Path(), "balancer", family.of(balancerIP), 80)
	var proxies []*node
	for name := range nodes {
		proxies = append(proxies, startNode(t, n[name].Path(), mode, name, family))
	}
	for _, r := range allRows() {
		t.Run(r.name, func(t *testing.T) {
			o := order{Flags: r.flags, Services: []*corev1.Service{r.service}, Slices: []*discoveryv1.EndpointSlice{r.slice}}
			for _, p := range proxies {
				if err := p.apply(o); err != nil {
					t.Fatal(err)
				}
			}
			want, _ := r.of(mode, family)
			var all sync.WaitGroup
			for i, column := range columns {
				all.Go(func() {
					path := n[column.host].Path()
					if err := check(want[i], func(wait time.Duration) string { return ask(path, family.of(r.to), wait) }); err != nil {
						t.Errorf("%s → %s: %v", column.name, family.of(r.to), err)
					}
				})
			}
			all.Wait()
		})
	}
}
