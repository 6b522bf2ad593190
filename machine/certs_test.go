package machine

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podarium/podarium/machine/components"
)

const aYear = 365 * 24 * time.Hour

// TestExpirationTable: those of a control plane, a year and ten years from now.
func TestExpirationTable(t *testing.T) {
	root := t.TempDir()
	if err := CheckExpiration(root, &bytes.Buffer{}, time.Now()); !strings.Contains(said(err), "podarium init or podarium join makes them") {
		t.Errorf("without certificates: %v", err)
	}
	ca, _, err := EnsureCA(filepath.Join(root, components.PKI, "ca.crt"), filepath.Join(root, components.PKI, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	identities := Identities{Root: root, CA: ca, Context: contextName, Server: plan.ServerURL()}
	if err := identities.ControlPlane(plan, node2); err != nil {
		t.Fatal(err)
	}
	if err := identities.Node(node2); err != nil {
		t.Fatal(err)
	}
	for years, want := range map[time.Duration]string{0: "364d", 2: "<expired>"} {
		var table bytes.Buffer
		if err := CheckExpiration(root, &table, time.Now().Add(years*aYear)); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(table.String()), "\n")
		if len(lines) != 1+len(certFiles) {
			t.Fatalf("%d lines, want one for each file:\n%s", len(lines), &table)
		}
		for _, line := range lines[1:] {
			if !strings.Contains(line, want) && !strings.HasPrefix(line, "ca ") {
				t.Errorf("%s: want %s", line, want)
			}
		}
	}
}

// TestRenew: what ends soon is made anew, by the machine that has the CA and by
// one that has to ask, and its component is to start anew; what holds for long
// stays.
func TestRenew(t *testing.T) {
	c := startCluster(t)
	j := c.joiner(t, node2)
	byToken, err := j.withToken(c.token(t, Token{TTL: time.Hour}))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.becomeKubelet(t.Context(), byToken); err != nil {
		t.Fatal(err)
	}
	asKubelet, err := j.asKubelet()
	if err != nil {
		t.Fatal(err)
	}
	asked := func(within time.Duration) {
		j.renewBefore = within
		if err := j.nodeCertificates(t.Context(), asKubelet); err != nil {
			t.Fatal(err)
		}
	}
	issued := func(within time.Duration) {
		identities := c.identities("https://" + c.address.String())
		identities.RenewBefore = within
		if err := identities.ControlPlane(c.plan, c.node); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		file  string
		renew func(within time.Duration)
	}{
		"asked for, kubelet":    {filepath.Join(j.root, components.KubeletPK, "kubelet.crt"), asked},
		"asked for, kube-proxy": {filepath.Join(j.root, components.Etc, "kube-proxy.conf"), asked},
		"issued, API server":    {c.path(components.PKI, "apiserver.crt"), issued},
		"issued, scheduler":     {c.path(components.Etc, "scheduler.conf"), issued},
	} {
		test.renew(RenewBefore)
		first := content(t, test.file)
		test.renew(RenewBefore)
		if content(t, test.file) != first {
			t.Errorf("%s: renewed, though it holds for a year", name)
		}
		test.renew(2 * aYear)
		if content(t, test.file) == first {
			t.Errorf("%s: not renewed, though it ends within two years", name)
		}
	}
	if !j.restart["kubelet"] || !j.restart["kube-proxy"] {
		t.Errorf("to start anew: %v", j.restart)
	}
}

func content(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
