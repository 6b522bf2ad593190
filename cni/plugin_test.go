package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podarium/podarium/internal/netns/nstest"
)

// TestMain lets the test binary be the plugin: libcni runs it as a program,
// as every runtime does.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		skel.PluginMainFuncs(Verbs, Versions, "CNI plugin under test")
		return
	}
	os.Exit(m.Run())
}

// runtime is a container runtime on one node, the test's own namespace.
type runtime struct {
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func newRuntime(t *testing.T, subnet string) runtime {
	t.Helper()
	nstest.Enter(t)
	bin, state := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, PluginType)); err != nil {
		t.Fatal(err)
	}
	list, err := libcni.ConfListFromBytes([]byte(fmt.Sprintf(
		`{"cniVersion":"1.1.0","name":"pods","plugins":[{"type":"podarium","subnet":%q,"mtu":1450,"dataDir":%q}]}`, subnet, state)))
	if err != nil {
		t.Fatal(err)
	}
	exec := &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}
	return runtime{libcni.NewCNIConfigWithCacheDir([]string{bin}, state+"/cache", exec), list}
}

func attachment(id string, pod *nstest.Host) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: pod.Path(), IfName: "eth0"}
}

func (r runtime) add(t *testing.T, id string, pod *nstest.Host) *types100.Result {
	t.Helper()
	result, err := r.cni.AddNetworkList(context.Background(), r.list, attachment(id, pod))
	if err != nil {
		t.Fatalf("ADD %s: %v", id, err)
	}
	current, err := types100.NewResultFromResult(result)
	if err != nil {
		t.Fatal(err)
	}
	return current
}

func TestTwoPodsAndTheirNode(t *testing.T) {
	r := newRuntime(t, "10.244.1.0/24")
	a, b := nstest.New(t), nstest.New(t)
	first, second := r.add(t, "a", a), r.add(t, "b", b)

	if got := first.IPs[0].Address.String(); got != "10.244.1.2/24" {
		t.Errorf("first pod has %s, want 10.244.1.2/24", got)
	}
	if got := second.IPs[0].Address.String(); got != "10.244.1.3/24" {
		t.Errorf("second pod has %s, want 10.244.1.3/24", got)
	}
	if got := strings.Fields(a.Run(t, "ip", "route", "show", "default")); strings.Join(got, " ") != "default via 10.244.1.1 dev eth0" {
		t.Errorf("default route of a pod: %v", got)
	}
	a.Run(t, "busybox", "ping", "-c1", "-W2", "10.244.1.3") // pod → pod, switched by cni0
	a.Run(t, "busybox", "ping", "-c1", "-W2", "10.244.1.1") // pod → node
	nstest.Run(t, "busybox", "ping", "-c1", "-W2", "10.244.1.2")

	port := nstest.Run(t, "bridge", "-d", "link", "show", "dev", vethName("a", "eth0"))
	if !strings.Contains(port, "master cni0") || !strings.Contains(port, "hairpin on") || !strings.Contains(port, "mtu 1450") {
		t.Errorf("the pod's port: %s", port)
	}
	if eth0 := a.Run(t, "ip", "link", "show", "eth0"); !strings.Contains(eth0, "mtu 1450") || !strings.Contains(eth0, "0a:58:0a:f4:01:02") {
		t.Errorf("the pod's eth0: %s", eth0)
	}
}

func TestDelFreesEverythingAndIsIdempotent(t *testing.T) {
	r := newRuntime(t, "10.244.1.0/29") // .2 to .6
	pod := nstest.New(t)
	r.add(t, "a", pod)
	for range 3 {
		if err := r.cni.DelNetworkList(context.Background(), r.list, attachment("a", pod)); err != nil {
			t.Fatalf("DEL: %v", err)
		}
	}
	if links := nstest.Run(t, "ip", "-o", "link"); strings.Contains(links, "veth") {
		t.Errorf("a veth is left:\n%s", links)
	}
	gone := &libcni.RuntimeConf{ContainerID: "b", NetNS: "/proc/1/nowhere", IfName: "eth0"}
	if err := r.cni.DelNetworkList(context.Background(), r.list, gone); err != nil {
		t.Errorf("DEL without a namespace: %v", err)
	}
	if got := r.add(t, "c", pod).IPs[0].Address.IP.String(); got != "10.244.1.3" {
		t.Errorf("the next pod got %s; a freed address should rest, so want 10.244.1.3", got)
	}
}

func TestAddressesRunOutAndComeBack(t *testing.T) {
	r := newRuntime(t, "10.244.1.0/29")
	ctx := context.Background()
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		r.add(t, id, nstest.New(t))
	}
	if err := r.cni.GetStatusNetworkList(ctx, r.list); err == nil {
		t.Error("STATUS says ready with no free address")
	}
	pod := nstest.New(t)
	_, err := r.cni.AddNetworkList(ctx, r.list, attachment("f", pod))
	var refusal *types.Error
	if !errors.As(err, &refusal) || refusal.Code != errAddressesExhausted || !strings.Contains(refusal.Msg, "no free address in 10.244.1.0/29") {
		t.Fatalf("ADD with no free address: %v", err)
	}
	if err := r.cni.DelNetworkList(ctx, r.list, attachment("c", pod)); err != nil {
		t.Fatal(err)
	}
	if got := r.add(t, "f", pod).IPs[0].Address.IP.String(); got != "10.244.1.4" {
		t.Errorf("got %s, want the freed 10.244.1.4", got)
	}
}

func TestParallelAddsShareNothing(t *testing.T) {
	r := newRuntime(t, "10.244.1.0/24")
	const pods = 16
	hosts := make([]*nstest.Host, pods)
	for i := range hosts {
		hosts[i] = nstest.New(t)
	}
	// libcni forks from the calling thread, and other goroutines are outside
	// the test's namespace: so the plugin is run by 16 shells at once.
	var script strings.Builder
	plugin := r.cni.Path[0] + "/" + PluginType
	conf := filepath.Join(t.TempDir(), "conf")
	writeSingleConfig(t, r, conf)
	for i, h := range hosts {
		fmt.Fprintf(&script, "CNI_COMMAND=ADD CNI_CONTAINERID=p%d CNI_NETNS=%s CNI_IFNAME=eth0 CNI_PATH=/ %s <%s >%s.%d & \n", i, h.Path(), plugin, conf, conf, i)
	}
	nstest.Run(t, "sh", "-c", script.String()+"wait")
	seen := map[string]bool{}
	for i := range hosts {
		data, err := os.ReadFile(fmt.Sprintf("%s.%d", conf, i))
		if err != nil {
			t.Fatal(err)
		}
		var result types100.Result
		if err := json.Unmarshal(data, &result); err != nil || len(result.IPs) != 1 {
			t.Fatalf("ADD %d answered %s", i, data)
		}
		seen[result.IPs[0].Address.IP.String()] = true
	}
	if len(seen) != pods {
		t.Errorf("%d pods have %d addresses", pods, len(seen))
	}
}

func writeSingleConfig(t *testing.T, r runtime, path string) {
	t.Helper()
	var conf map[string]any
	if err := json.Unmarshal(r.list.Plugins[0].Bytes, &conf); err != nil {
		t.Fatal(err)
	}
	conf["name"], conf["cniVersion"] = r.list.Name, r.list.CNIVersion
	data, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestCheckSeesWhatHasChanged(t *testing.T) {
	r := newRuntime(t, "10.244.1.0/24")
	pod := nstest.New(t)
	r.add(t, "a", pod)
	check := func() error {
		return r.cni.CheckNetworkList(context.Background(), r.list, attachment("a", pod))
	}
	if err := check(); err != nil {
		t.Fatalf("CHECK right after ADD: %v", err)
	}
	for _, change := range [][]string{
		{"ip", "route", "del", "default"},
		{"ip", "addr", "flush", "dev", "eth0"},
		{"ip", "link", "del", "eth0"},
	} {
		pod.Run(t, change...)
		if err := check(); err == nil {
			t.Errorf("CHECK is content after %v", change)
		}
	}
}

func TestGarbageCollection(t *testing.T) {
	r := newRuntime(t, "10.244.1.0/24")
	r.add(t, "keep", nstest.New(t))
	r.add(t, "drop", nstest.New(t))
	err := r.cni.GCNetworkList(context.Background(), r.list, &libcni.GCArgs{
		ValidAttachments: []types.GCAttachment{{ContainerID: "keep", IfName: "eth0"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	links := nstest.Run(t, "ip", "-o", "link")
	if !strings.Contains(links, vethName("keep", "eth0")) || strings.Contains(links, vethName("drop", "eth0")) {
		t.Errorf("after GC:\n%s", links)
	}
}

func TestBadConfigurationNamesTheField(t *testing.T) {
	for name, tc := range map[string]struct{ conf, want string }{
		"no JSON":        {`{`, "cannot be read"},
		"no subnet":      {`{"name":"n"}`, "subnet"},
		"IPv6 subnet":    {`{"name":"n","subnet":"fd00::/64"}`, "subnet"},
		"tiny subnet":    {`{"name":"n","subnet":"10.0.0.0/31"}`, "no room"},
		"subnet, typo":   {`{"name":"n","subnet":"10.244.1/24"}`, "cannot be read"},
		"negative MTU":   {`{"name":"n","subnet":"10.0.0.0/24","mtu":-1}`, "mtu"},
		"long bridge":    {`{"name":"n","subnet":"10.0.0.0/24","bridge":"a-very-long-bridge"}`, "15 characters"},
		"bad prevResult": {`{"name":"n","cniVersion":"1.1.0","subnet":"10.0.0.0/24","prevResult":{"ips":3}}`, "prevResult"},
	} {
		_, err := parseConfig([]byte(tc.conf))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error about %q", name, err, tc.want)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"name":"n","subnet":"10.0.0.0/24","mtu":1450,"prevResult":{"cniVersion":"1.0.0"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := parseConfig(data)
		if err != nil {
			return
		}
		if !cfg.Subnet.Contains(cfg.gateway()) {
			t.Errorf("gateway %s is outside of %s", cfg.gateway(), cfg.Subnet)
		}
	})
}

func TestNextFree(t *testing.T) {
	subnet := netip.MustParsePrefix("10.0.0.0/29") // pods .2 to .6
	for _, tc := range []struct {
		last, used, want string
	}{
		{"", "", "10.0.0.2"},
		{"10.0.0.2", "", "10.0.0.3"},
		{"10.0.0.6", "", "10.0.0.2"},
		{"10.0.0.6", "10.0.0.2", "10.0.0.3"},
		{"10.0.0.3", "10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.2", "10.0.0.3"},
		{"10.0.0.3", "10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6", ""},
		{"192.168.0.1", "", "10.0.0.2"}, // left over from another subnet
	} {
		last, _ := netip.ParseAddr(tc.last)
		got, ok := nextFree(subnet, last, func(a netip.Addr) bool { return !strings.Contains(tc.used, a.String()) })
		if ok != (tc.want != "") || ok && got.String() != tc.want {
			t.Errorf("after %q with %q in use: %v, want %q", tc.last, tc.used, got, tc.want)
		}
	}
}
