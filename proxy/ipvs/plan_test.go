package ipvs

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy/proxytest"
)

// nodeAddresses are node-1's.
var nodeAddresses = []netip.Addr{netip.MustParseAddr("192.168.56.11")}

// families are how the situations call the plans, and which addresses node-1 has.
var families = map[string]struct {
	family corev1.IPFamily
	own    []netip.Addr
}{
	"ipvs":     {corev1.IPv4Protocol, nodeAddresses},
	"ipvs-ip6": {corev1.IPv6Protocol, []netip.Addr{netip.MustParseAddr("fd00:192:168:56::11")}},
}

// TestSituations: what each cluster of ../testdata means in ipvs mode, as the
// tools would print it: `ip addr`, `ipvsadm-save -n`, `ipset save`,
// `iptables-save`.
func TestSituations(t *testing.T) {
	for _, s := range proxytest.Situations(t) {
		for name, of := range families {
			if _, ok := s.Rules["ip6tables"]; !ok && of.family == corev1.IPv6Protocol {
				continue // most are about IPv4
			}
			t.Run(name+"/"+s.Name, func(t *testing.T) {
				cfg := configOf(t, of.family, s.Flags)
				got := text(plan(proxytest.SnapshotOf(t, of.family, s.Objects), cfg, of.own), cfg.family())
				if *proxytest.Update {
					s.Rewrite(t, name, got)
					return
				}
				if diff := cmp.Diff(s.Rules[name], got); diff != "" {
					t.Errorf("the plan differs (-written +planned; go test ./proxy/ipvs -update rewrites it):\n%s", diff)
				}
			})
		}
	}
}

func text(p *Plan, f family) string {
	var out strings.Builder
	for _, addr := range slices.SortedFunc(maps.Keys(p.Addresses), netip.Addr.Compare) {
		out.WriteString(f.sets + " " + addr.String() + f.host + " scope global " + device + "\n")
	}
	out.WriteString(p.Servers.String() + f.save(p.Sets))
	out.Write(iptables.Difference(noRules(), p.Rules))
	return out.String()
}

func noRules() *iptables.Ruleset {
	return &iptables.Ruleset{Tables: []*iptables.Table{iptables.NewTable("nat"), iptables.NewTable("filter")}}
}

// config is what kube-proxy's flags mean on node-1.
func config(t *testing.T, flags []string) Config {
	t.Helper()
	return configOf(t, corev1.IPv4Protocol, flags)
}

func configOf(t *testing.T, family corev1.IPFamily, flags []string) Config {
	t.Helper()
	f := proxytest.ParseFlags(t, family, flags)
	own := nodeAddresses
	if family == corev1.IPv6Protocol {
		own = families["ipvs-ip6"].own
	}
	return Config{
		Family: family, MasqueradeBit: 14, Scheduler: "rr", NodeIP: own[0],
		LocalPods: f.LocalPods, MasqueradeAll: f.MasqueradeAll, NodePortAddresses: f.NodePortAddresses,
	}
}

// TestStepsLeadFromAnyPlanToAnyOther plays kernel: from each situation to the
// next, the steps taken one by one must end in what is wanted.
func TestStepsLeadFromAnyPlanToAnyOther(t *testing.T) {
	kernel, content := servers{}, newContents()
	for _, s := range proxytest.Situations(t) {
		want := plan(proxytest.Snapshot(t, s.Objects), config(t, s.Flags), nodeAddresses)
		expected := kernel.after(want.Servers)
		come, gone := serverSteps(kernel, want.Servers)
		for _, step := range slices.Concat(come, gone) {
			kernel.take(t, step)
		}
		if diff := cmp.Diff(expected.weights(), kernel.weights()); diff != "" {
			t.Fatalf("%s: the steps led elsewhere (-expected +got):\n%s", s.Name, diff)
		}
		if kernel.String() != want.Servers.String() {
			t.Fatalf("%s: virtual servers:\n%s\nwant:\n%s", s.Name, kernel, want.Servers)
		}
		add, del := ipv4.setSteps(content, want.Sets)
		content.take(t, add+del)
		if ipv4.save(content) != ipv4.save(want.Sets) {
			t.Fatalf("%s: sets:\n%s\nwant:\n%s", s.Name, ipv4.save(content), ipv4.save(want.Sets))
		}
		if come, gone := serverSteps(kernel, want.Servers); len(come)+len(gone) > 0 {
			t.Fatalf("%s: nothing has changed, and yet: %v %v", s.Name, come, gone)
		}
	}
}

// take is what the kernel does with a step, refusals included.
func (have servers) take(t *testing.T, s step) {
	t.Helper()
	there := have[s.at] != nil
	if there == (s.verb == addServer) {
		t.Fatalf("step %q: is the virtual server there? %v", s, there)
	}
	switch s.verb {
	case addServer:
		have[s.at] = &server{s.server.scheduler, s.server.flags, s.server.timeout, map[netip.AddrPort]int{}}
		return
	case editServer:
		have[s.at].scheduler, have[s.at].flags, have[s.at].timeout = s.server.scheduler, s.server.flags, s.server.timeout
		return
	case deleteServer:
		delete(have, s.at)
		return
	default:
	}
	if _, there := have[s.at].real[s.real]; there == (s.verb == addReal) {
		t.Fatalf("step %q: is the real server there? %v", s, there)
	}
	if s.verb == deleteReal {
		delete(have[s.at].real, s.real)
		return
	}
	have[s.at].real[s.real] = s.weight
}

func (have servers) weights() map[string]int {
	all := map[string]int{}
	for at, s := range have {
		all[at.element()] = -1
		for real, weight := range s.real {
			all[at.element()+" "+real.String()] = weight
		}
	}
	return all
}

func (c contents) take(t *testing.T, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		fields := strings.Fields(line)
		if there := c[fields[1]][fields[2]]; there == (fields[0] == "add") {
			t.Fatalf("%q: is it there? %v", line, there)
		}
		if fields[0] == "add" {
			c[fields[1]][fields[2]] = true
		} else {
			delete(c[fields[1]], fields[2])
		}
	}
}
