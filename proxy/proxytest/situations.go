package proxytest

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/proxy"
)

// Update rewrites the rules of the situations which are our own.
var Update = flag.Bool("update", false, "rewrite the rules in ../testdata, except kube-proxy's own")

// Situation is a cluster and the rules made of it.
type Situation struct {
	Name    string
	Words   string   // what it is about; "" when its rules are kube-proxy 1.36.2's own
	Flags   []string // of kube-proxy, such as --cluster-cidr=10.244.0.0/16
	Before  []string // what was there earlier, in order, as YAML
	Objects string   // what is there, as YAML
	Rules   map[string]string
}

// Situations reads all of them. They lie two folders up from a mode's tests.
func Situations(t *testing.T) []Situation {
	t.Helper()
	files, err := filepath.Glob("../testdata/*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d situations: %v", len(files), err)
	}
	var list []Situation
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		s := Situation{Name: strings.TrimSuffix(filepath.Base(file), ".txtar"), Words: string(archive.Comment), Rules: map[string]string{}}
		for _, f := range archive.Files {
			switch {
			case f.Name == "flags":
				s.Flags = strings.Fields(string(f.Data))
			case strings.HasPrefix(f.Name, "objects-before"):
				s.Before = append(s.Before, string(f.Data))
			case f.Name == "objects.yaml":
				s.Objects = string(f.Data)
			default:
				s.Rules[strings.TrimSuffix(f.Name, ".txt")] = string(f.Data)
			}
		}
		list = append(list, s)
	}
	return list
}

// Rewrite puts a mode's rules into the situation's file.
func (s Situation) Rewrite(t *testing.T, mode, rules string) {
	t.Helper()
	path := filepath.Join("../testdata", s.Name+".txtar")
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file := txtar.File{Name: mode + ".txt", Data: []byte(rules)}
	if i := slices.IndexFunc(archive.Files, func(f txtar.File) bool { return f.Name == file.Name }); i >= 0 {
		archive.Files[i] = file
	} else {
		archive.Files = append(archive.Files, file)
	}
	if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Flags are those of kube-proxy's which situations vary.
type Flags struct {
	LocalPods          proxy.LocalPods
	MasqueradeAll      bool
	LocalhostNodePorts bool
	NodePortAddresses  []netip.Prefix
}

// ParseFlags reads them for a family: of --cluster-cidr, which may have a range
// of each, its own.
func ParseFlags(t *testing.T, family corev1.IPFamily, flags []string) Flags {
	t.Helper()
	f := Flags{LocalhostNodePorts: true}
	for _, flag := range flags {
		name, value, _ := strings.Cut(flag, "=")
		switch name {
		case "--cluster-cidr":
			for _, prefix := range prefixes(family, value) {
				f.LocalPods.Range = prefix
			}
		case "--detect-local-mode": // NodeCIDR: node-1's own; the others have a flag of their own
			if value == "NodeCIDR" {
				f.LocalPods.Range = netip.MustParsePrefix("10.244.1.0/24")
			}
		case "--pod-bridge-interface":
			f.LocalPods.Bridge = value
		case "--pod-interface-name-prefix":
			f.LocalPods.InterfacePrefix = value
		case "--masquerade-all":
			f.MasqueradeAll = true
		case "--iptables-localhost-nodeports":
			f.LocalhostNodePorts = value == "true"
		case "--nodeport-addresses":
			f.NodePortAddresses = prefixes(family, value)
		default:
			t.Fatalf("flag %q is not known to this test", flag)
		}
	}
	return f
}

func prefixes(family corev1.IPFamily, list string) []netip.Prefix {
	var own []netip.Prefix
	for text := range strings.SplitSeq(list, ",") {
		if p := netip.MustParsePrefix(text); p.Addr().Is4() == (family == corev1.IPv4Protocol) {
			own = append(own, p)
		}
	}
	return own
}

// Mode is what differs between the tests of the modes whose rules the situations
// hold.
type Mode struct {
	Name   string // of the file in the situations: "iptables"
	Family corev1.IPFamily
	New    func(t *testing.T, flags Flags) proxy.Backend
	Rules  func(t *testing.T) string // those in force, made comparable
}

// TestSituations compares the rules in force: after a sync of what was there
// before, step by step, then of the objects, and then after a restart of a proxy
// that knows nothing.
func (m Mode) TestSituations(t *testing.T) {
	t.Helper()
	tried := 0
	for _, s := range Situations(t) {
		want, ok := s.Rules[m.Name]
		if !ok && (m.Family == corev1.IPv6Protocol || !*Update) {
			if m.Family == corev1.IPv4Protocol {
				t.Errorf("%s: no rules of %s mode", s.Name, m.Name)
			}
			continue // most are about IPv4
		}
		tried++
		t.Run(s.Name, func(t *testing.T) {
			Node(t)
			flags := ParseFlags(t, m.Family, s.Flags)
			got := m.after(t, flags, append(s.Before, s.Objects)...)
			if *Update && s.Words != "" {
				s.Rewrite(t, m.Name, got)
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("rules differ (-want +ours):\n%s", diff)
			}
			if diff := cmp.Diff(want, m.after(t, flags, s.Objects)); diff != "" {
				t.Errorf("rules differ after a restart (-want +ours):\n%s", diff)
			}
		})
	}
	if tried == 0 {
		t.Errorf("no situation has rules of %s", m.Name)
	}
}

// after is the rules when a new backend has synced the clusters in turn.
func (m Mode) after(t *testing.T, flags Flags, clusters ...string) string {
	t.Helper()
	backend := m.New(t, flags)
	for i, objects := range clusters {
		snapshot := SnapshotOf(t, m.Family, objects)
		if i == len(clusters)-1 {
			Sync(t, backend, snapshot)
		} else if err := backend.Sync(t.Context(), snapshot); err != nil {
			t.Fatal(err)
		}
	}
	return m.Rules(t)
}

// Sync makes the node's rules be those of the snapshot, and nothing else.
func Sync(t testing.TB, backend proxy.Backend, snapshot *proxy.Snapshot) {
	t.Helper()
	if err := backend.Sync(t.Context(), snapshot); err != nil {
		t.Fatal(err)
	}
	if b, ok := backend.(proxy.Settler); ok {
		if err := b.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
