package test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/podarium/podarium/kubelet/runtime"
)

// runcGroup is the control group of the containers which runc starts alone.
const runcGroup = "/podarium-bench-runc"

// BenchmarkRunc starts 30 containers with new namespaces by nothing but runc, six at a
// time as three kubelets do on two processors. 30 pods at once take this and what is
// Kubernetes' about them: no runtime on runc can be faster on the same machine.
func BenchmarkRunc(b *testing.B) {
	const containers, atOnce = 30, 6
	dir := b.TempDir()
	for i := range containers {
		writeBundle(b, dir, i)
	}
	var all []float64
	for b.Loop() {
		took := make([]float64, containers)
		began := time.Now()
		var starts errgroup.Group
		starts.SetLimit(atOnce)
		for i := range containers {
			starts.Go(func() error {
				err := runc(dir, "run", "--detach", "--bundle", bundle(dir, i), fmt.Sprint("bench-", i))
				took[i] = float64(time.Since(began).Microseconds()) / 1000
				return err
			})
		}
		err := starts.Wait()
		for i := range containers {
			_ = runc(dir, "delete", "--force", fmt.Sprint("bench-", i)) // one may not have started
		}
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, took...)
	}
	if err := runtime.RemoveCgroup(runcGroup); err != nil {
		b.Error(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(percentile(all, 50), "p50-ms")
	b.ReportMetric(percentile(all, 99), "p99-ms")
}

func bundle(dir string, i int) string { return filepath.Join(dir, fmt.Sprint(i)) }

// runc does not wait for the container to close its output: it has none.
func runc(dir string, args ...string) error {
	cmd := exec.Command("runc", append([]string{"--root", filepath.Join(dir, "state"), "--log", filepath.Join(dir, "log")}, args...)...)
	if err := cmd.Run(); err != nil {
		told, _ := os.ReadFile(filepath.Join(dir, "log"))
		return fmt.Errorf("runc %v: %w: %s", args, err, told)
	}
	return nil
}

// writeBundle is `runc spec` with busybox's sleep in a root file system of its own.
func writeBundle(b *testing.B, dir string, i int) {
	b.Helper()
	root := filepath.Join(bundle(dir, i), "rootfs", "bin")
	if err := os.MkdirAll(root, 0o755); err != nil {
		b.Fatal(err)
	}
	run(b, dir, "cp", "/bin/busybox", filepath.Join(root, "sleep"))
	run(b, dir, "runc", "spec", "--bundle", bundle(dir, i))
	path := filepath.Join(bundle(dir, i), "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	var spec map[string]any
	if err := json.Unmarshal(text, &spec); err != nil {
		b.Fatal(err)
	}
	process := spec["process"].(map[string]any)
	process["terminal"], process["args"] = false, []string{"sleep", "3600"}
	spec["linux"].(map[string]any)["cgroupsPath"] = fmt.Sprintf("%s/%d", runcGroup, i)
	if text, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		b.Fatal(err)
	}
}
