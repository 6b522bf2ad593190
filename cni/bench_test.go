package cni

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/podarium/podarium/internal/netns/nstest"
)

// BenchmarkAdd measures one ADD of our plugin and one of upstream's bridge with
// host-local, by turns in one run, each as a program that libcni runs. The
// ratio of the medians is what counts; `make build` makes both.
func BenchmarkAdd(b *testing.B) {
	nstest.Enter(b)
	programs, err := filepath.Abs("../bin")
	if err != nil {
		b.Fatal(err)
	}
	bin, state := b.TempDir(), b.TempDir()
	for name, program := range map[string]string{PluginType: "podarium-cni", "bridge": "cni/bridge", "host-local": "cni/host-local"} {
		if err := os.Symlink(filepath.Join(programs, program), filepath.Join(bin, name)); err != nil {
			b.Fatal(err)
		}
	}
	runtime := libcni.NewCNIConfigWithCacheDir([]string{bin}, state+"/cache", nil)
	ours := benchList(b, `{"type":"podarium","subnet":"10.244.1.0/24","dataDir":%q}`, state+"/ours")
	theirs := benchList(b, `{"type":"bridge","bridge":"theirs0","isGateway":true,"hairpinMode":true,
		"ipam":{"type":"host-local","subnet":"10.244.2.0/24","dataDir":%q,"routes":[{"dst":"0.0.0.0/0"}]}}`, state+"/theirs")
	pod := nstest.New(b)
	once := func(list *libcni.NetworkConfigList) float64 {
		attachment := &libcni.RuntimeConf{ContainerID: "bench", NetNS: pod.Path(), IfName: "eth0"}
		began := time.Now()
		if _, err := runtime.AddNetworkList(context.Background(), list, attachment); err != nil {
			b.Fatalf("ADD: %v", err)
		}
		took := time.Since(began)
		if err := runtime.DelNetworkList(context.Background(), list, attachment); err != nil {
			b.Fatalf("DEL: %v", err)
		}
		return float64(took.Microseconds()) / 1000
	}
	var a, z []float64
	for b.Loop() {
		for range 20 {
			a, z = append(a, once(ours)), append(z, once(theirs))
		}
	}
	slices.Sort(a)
	slices.Sort(z)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(a[len(a)/2], "add-p50-ms")
	b.ReportMetric(z[len(z)/2], "bridge-p50-ms")
	b.ReportMetric(a[len(a)/2]/z[len(z)/2], "add÷bridge")
}

func benchList(b *testing.B, plugin, dir string) *libcni.NetworkConfigList {
	b.Helper()
	text := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"bench","plugins":[`+plugin+`]}`, dir)
	list, err := libcni.ConfListFromBytes([]byte(text))
	if err != nil {
		b.Fatal(err)
	}
	return list
}
