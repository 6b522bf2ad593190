package machine

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

var plan = components.Cluster{
	ControlPlane: netip.MustParseAddr("192.168.56.11"), ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"),
	ServiceClusterIPRange: netip.MustParsePrefix("10.96.0.0/12"), ProxyMode: "iptables", PodNetwork: "host-gw", Verbosity: 2,
}

// TestUnit: the whole text of one, as `systemctl cat kube-proxy` shows it.
func TestUnit(t *testing.T) {
	list := units(plan, node2, false, nil)
	if got := list[len(list)-1].text(); got != kubeProxyUnit {
		t.Error(cmp.Diff(kubeProxyUnit, got))
	}
	var names []string
	for _, u := range units(plan, node2, true, nil) {
		names = append(names, u.name())
	}
	want := []string{"kube-apiserver.service", "kube-controller-manager.service", "kube-scheduler.service", "kubelet.service", "kube-proxy.service"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	without := plan
	without.ProxyMode = "none"
	if list := units(without, node2, false, nil); len(list) != 1 {
		t.Errorf("without kube-proxy there are %d units", len(list))
	}
}

const kubeProxyUnit = `# Written by podarium; removed by podarium reset.
[Unit]
Description=kube-proxy: Services on this node
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart=@/opt/podarium/podarium-proxy kube-proxy \
    --kubeconfig=/etc/kubernetes/kube-proxy.conf \
    --hostname-override=node-2 \
    --cluster-cidr=10.244.0.0/16 \
    --proxy-mode=iptables \
    --v=2 \
    --log-file=/var/log/kube-proxy.log
Environment=GOGC=50
Restart=always
RestartSec=1
LimitNOFILE=1048576
NoNewPrivileges=yes

[Install]
WantedBy=multi-user.target
`

// TestEscape: what systemd.service(5) would read otherwise.
func TestEscape(t *testing.T) {
	for arg, want := range map[string]string{
		"--v=2": "--v=2", "--x=50%": "--x=50%%", "--x=$HOME": "--x=$$HOME", "--x=a b": `"--x=a b"`, `--x="`: `--x=\"`, `--x=\n`: `--x=\\n`,
	} {
		if got := escape(arg); got != want {
			t.Errorf("escape(%s) = %s, want %s", arg, got, want)
		}
	}
}

// TestIdentitiesAgain: a second run keeps what is good, and makes anew what is
// missing, for another address, or another CA's.
func TestIdentitiesAgain(t *testing.T) {
	root := t.TempDir()
	node := components.Node{Name: "node-1", IP: plan.ControlPlane}
	run := func(ca *pki.CA, cluster components.Cluster) (made []string) {
		t.Helper()
		told := func(path string, new bool) {
			if new {
				made = append(made, filepath.Base(path))
			}
		}
		i := Identities{Root: root, CA: ca, Context: contextName, Server: cluster.ServerURL(), Told: told}
		if err := i.ControlPlane(cluster, node); err != nil {
			t.Fatal(err)
		}
		if err := i.Node(node); err != nil {
			t.Fatal(err)
		}
		return made
	}
	ca, err := pki.NewCA("kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	all := []string{
		"sa.key", "ca.key", "apiserver.crt", "apiserver-kubelet-client.crt", "admin.conf", "controller-manager.conf", "scheduler.conf",
		"ca.crt", "kubelet.conf", "kube-proxy.conf", "kubelet.crt",
	}
	if diff := cmp.Diff(all, run(ca, plan)); diff != "" {
		t.Error("first run", diff)
	}
	if made := run(ca, plan); len(made) != 0 {
		t.Errorf("second run made %v", made)
	}
	if err := os.Remove(filepath.Join(root, components.Etc, "scheduler.conf")); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"scheduler.conf"}, run(ca, plan)); diff != "" {
		t.Error("with one missing", diff)
	}
	moved := plan
	moved.ControlPlane = netip.MustParseAddr("192.168.56.21")
	if diff := cmp.Diff([]string{"apiserver.crt", "admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf", "kube-proxy.conf"}, run(ca, moved)); diff != "" {
		t.Error("at another address", diff)
	}
	if ca, err = pki.NewCA("kubernetes"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all[1:], run(ca, moved)); diff != "" { // tokens outlive the CA
		t.Error("by another CA", diff)
	}
}

// TestClock: an hour and a day off, by the date that an API server writes.
func TestClock(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for date, want := range map[string]string{
		"Sat, 21 Nov 2026 12:00:30 GMT": "",
		"Sun, 22 Nov 2026 12:00:00 GMT": "the clock of this machine is 24h0m0s behind the control plane's: timedatectl set-ntp true, or date -s @1795348800",
		"Fri, 20 Nov 2026 12:00:00 GMT": "the clock of this machine is 24h0m0s ahead of the control plane's",
		"":                              "", // nobody said what time it is
	} {
		said := ""
		if err := checkClock(date, now); err != nil {
			said = err.Error()
		}
		if want == "" && said != "" || !strings.HasPrefix(said, want) {
			t.Errorf("at %q: %q, want %q", date, said, want)
		}
	}
}

// TestSwap reads /proc/swaps with and without a device.
func TestSwap(t *testing.T) {
	file := filepath.Join(t.TempDir(), "swaps")
	head := "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
	for text, device := range map[string]string{head: "", head + "/dev/sda2                               partition\t999420\t0\t-2\n": "/dev/sda2"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := swapOff(file)
		if (err != nil) != (device != "") || err != nil && !strings.Contains(err.Error(), "swap is on ("+device+")") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if err := swapOff(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
}

// TestRangesRefused: overlaps, and what is too small, are told with the flag.
func TestRangesRefused(t *testing.T) {
	for _, test := range []struct {
		change func(*components.Cluster)
		want   string
	}{
		{func(*components.Cluster) {}, ""},
		{func(c *components.Cluster) { c.ClusterCIDR = netip.MustParsePrefix("10.100.0.0/16") }, "--pod-network-cidr 10.100.0.0/16 overlaps --service-cidr 10.96.0.0/12"},
		{func(c *components.Cluster) { c.ClusterCIDR = netip.MustParsePrefix("10.244.0.0/24") }, "--pod-network-cidr 10.244.0.0/24: too small"},
		{func(c *components.Cluster) { c.ProxyMode = "magic" }, `--proxy-mode "magic": must be one of iptables`},
		{func(c *components.Cluster) { c.PodNetwork = "magic" }, `--pod-network "magic": must be one of host-gw, vxlan`},
	} {
		c := plan
		test.change(&c)
		said := ""
		if err := validCluster(c); err != nil {
			said = err.Error()
		}
		if test.want == "" && said != "" || !strings.HasPrefix(said, test.want) {
			t.Errorf("%+v: %q, want %q", c, said, test.want)
		}
	}
}

// TestConfigMapThereAndBack: what init uploads, join reads.
func TestConfigMapThereAndBack(t *testing.T) {
	got, err := readConfig(configMap(plan), plan.ControlPlane, 2)
	if err != nil || got != plan {
		t.Errorf("read %+v %v, want %+v", got, err, plan)
	}
	broken := configMap(plan)
	broken.Data[keyProxyMode] = ""
	if _, err := readConfig(broken, plan.ControlPlane, 2); err == nil || !strings.Contains(err.Error(), configName) {
		t.Errorf("broken ConfigMap: %v", err)
	}
}

// TestWords: tokens and hashes which somebody mistyped.
func TestWords(t *testing.T) {
	for token, ok := range map[string]bool{"abcdef.0123456789abcdef": true, "abcdef": false, "ABCDEF.0123456789abcdef": false, "": false, GenerateToken(): true} {
		if err := validToken(token); (err == nil) != ok {
			t.Errorf("token %q: %v", token, err)
		}
	}
	digits := strings.Repeat("0123456789abcdef", 4)
	for hash, ok := range map[string]bool{"sha256:" + digits: true, digits: false, "sha256:" + digits[1:]: false, "sha512:" + digits: false} {
		if err := validHashes([]string{hash}); (err == nil) != ok {
			t.Errorf("hash %q: %v", hash, err)
		}
	}
	if validHashes(nil) == nil {
		t.Error("no hash at all was accepted")
	}
}

// TestListeningInode finds who has a port in the text of /proc/net/tcp.
func TestListeningInode(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n" +
		"   0: 0100007F:192B 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 111 1\n" +
		"   1: 00000000:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"
	if got := listeningInode(table, 6443); got != "4711" {
		t.Errorf("inode %q, want 4711", got)
	}
	if got := listeningInode(table, 6444); got != "" {
		t.Errorf("inode %q of a port that nobody has", got)
	}
}

// TestSameCluster: a machine is of one cluster at a time.
func TestSameCluster(t *testing.T) {
	is := &state{ControlPlane: true, Cluster: plan, Node: components.Node{Name: "node-1"}}
	want := *is
	if err := is.sameCluster(want); err != nil {
		t.Error(err)
	}
	want.Cluster.ClusterCIDR = netip.MustParsePrefix("10.200.0.0/16")
	if err := is.sameCluster(want); err == nil || !strings.Contains(err.Error(), "made with --pod-network-cidr 10.244.0.0/16") {
		t.Errorf("another range: %v", err)
	}
	want = *is
	want.ControlPlane = false
	if err := is.sameCluster(want); err == nil || !strings.Contains(err.Error(), "podarium reset") {
		t.Errorf("join on the control plane: %v", err)
	}
	if err := (*state)(nil).sameCluster(want); err != nil {
		t.Error(err)
	}
}
