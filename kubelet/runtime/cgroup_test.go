package runtime

import (
	"os"
	"path/filepath"
	"testing"
)

// fakeCgroups lays files out as the kernel does; what is written into them stays readable.
func fakeCgroups(t *testing.T, files map[string]string) cgroups {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return cgroups{root}
}

func (c cgroups) expect(t *testing.T, want map[string]string) {
	t.Helper()
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(c.mount, name))
		if err != nil || string(got) != text {
			t.Errorf("%s is %q, want %q (%v)", name, got, text, err)
		}
	}
}

// A pod with 500m and 64 Mi: half a CPU's weight, half of every 100 ms.
func podLimits() CgroupLimits {
	return CgroupLimits{CPUShares: 512, CPUQuota: 50000, MemoryLimit: 64 << 20}
}

func TestSetCgroupV2(t *testing.T) {
	c := fakeCgroups(t, map[string]string{
		"cgroup.controllers":                        "cpuset cpu io memory pids",
		"cgroup.subtree_control":                    "cpu memory pids", // as systemd leaves it
		"kubepods/cgroup.subtree_control":           "memory",
		"kubepods/burstable/cgroup.subtree_control": "",
	})
	if !c.unified() {
		t.Fatal("a mount with cgroup.controllers is version 2")
	}
	if err := c.setV2("/kubepods/burstable/pod1", podLimits()); err != nil {
		t.Fatal(err)
	}
	c.expect(t, map[string]string{
		"cgroup.subtree_control":                    "cpu memory pids",
		"kubepods/cgroup.subtree_control":           "+cpu",
		"kubepods/burstable/cgroup.subtree_control": "+memory", // the last of two writes
		"kubepods/burstable/pod1/cpu.weight":        "20",
		"kubepods/burstable/pod1/cpu.max":           "50000 100000",
		"kubepods/burstable/pod1/memory.max":        "67108864",
	})
}

func TestSetCgroupV1(t *testing.T) {
	c := fakeCgroups(t, map[string]string{"cpu/tasks": "", "memory/tasks": ""})
	if c.unified() {
		t.Fatal("a mount with a directory per controller is version 1")
	}
	if err := c.setV1("/kubepods/pod1", podLimits()); err != nil {
		t.Fatal(err)
	}
	c.expect(t, map[string]string{
		"cpu/kubepods/pod1/cpu.shares":               "512",
		"cpu/kubepods/pod1/cpu.cfs_period_us":        "100000",
		"cpu/kubepods/pod1/cpu.cfs_quota_us":         "50000",
		"memory/kubepods/pod1/memory.limit_in_bytes": "67108864",
	})
}

func TestCPUWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 20: 10000} {
		if got := cpuWeight(shares); got != want {
			t.Errorf("%d shares are weight %d, want %d", shares, got, want)
		}
	}
}
