package iptables

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// useLegacy makes the iptables programs be those for the older interface of the
// kernel, with a lock of the test's own.
func useLegacy(t *testing.T) {
	t.Helper()
	legacy, err := exec.LookPath("xtables-legacy-multi")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore"} {
		if err := os.Symlink(legacy, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(dir, "lock"))
}

// TestSituationsLegacy: the same rules with iptables-legacy.
func TestSituationsLegacy(t *testing.T) {
	useLegacy(t)
	if version := nstest.Run(t, "iptables", "--version"); !strings.Contains(version, "(legacy)") {
		t.Fatalf("this is %s", version)
	}
	proxytest.Mode{
		Name: "iptables", Family: corev1.IPv4Protocol,
		New: func(t *testing.T, flags proxytest.Flags) proxy.Backend {
			t.Helper()
			return newBackend(t, corev1.IPv4Protocol, flags)
		},
		Rules: func(t *testing.T) string {
			t.Helper()
			return proxytest.NormaliseIPTables(saved(t, iptables.IPv4))
		},
	}.TestSituations(t)
}

// TestBadStateIsMended: what a proxy killed half-way may leave, and what others
// have put between: a chain of a Service that is gone, still referred to; jumps
// that are missing or in the wrong place; a chain of ours with strange rules.
func TestBadStateIsMended(t *testing.T) {
	clean := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	clean.sync(t, service("10.244.1.3"))
	want := proxytest.NormaliseIPTables(clean.saved(t))

	node := newNode(t, []string{"--cluster-cidr=10.244.0.0/16"})
	const text = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
:MINE - [0:0]
-A KUBE-SERVICES -d 10.96.0.99/32 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A PREROUTING -s 10.1.1.1/32 -j MINE
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -s 10.1.1.1/32 -j MINE
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A KUBE-FORWARD -j DROP
-A FORWARD -s 10.1.1.2/32 -j DROP
COMMIT
`
	if err := iptables.IPv4.Restore(context.Background(), []byte(text)); err != nil {
		t.Fatal(err)
	}
	node.sync(t, service("10.244.1.3"))
	if got := proxytest.NormaliseIPTables(node.saved(t)); got != want {
		t.Errorf("the rules are\n%s\nwant\n%s", got, want)
	}
	for _, foreign := range []string{"-A PREROUTING -s 10.1.1.1/32 -j MINE", "-A POSTROUTING -s 10.1.1.1/32 -j MINE", "-A FORWARD -s 10.1.1.2/32 -j DROP", ":MINE "} {
		if !strings.Contains(node.saved(t), foreign) {
			t.Errorf("a rule of somebody else is gone: %s", foreign)
		}
	}
}
