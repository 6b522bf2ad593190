package runtime

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestUsage reads the files of a group as kernels write them, with both versions of control groups.
func TestUsage(t *testing.T) {
	want := Usage{CPU: 1500 * time.Millisecond, Memory: 8 << 20, WorkingSet: 6 << 20, RSS: 1 << 20, PageFaults: 77, MajorPageFaults: 3}
	for name, files := range map[string]map[string]string{
		"v1": {
			"cpuacct/pods/a/cpuacct.usage":        "1500000000\n",
			"memory/pods/a/memory.usage_in_bytes": "8388608\n",
			"memory/pods/a/memory.stat":           "inactive_file 5\nhierarchical_memory_limit 9223372036854771712\ntotal_rss 1048576\ntotal_pgfault 77\ntotal_pgmajfault 3\ntotal_inactive_file 2097152\n",
		},
		"v2": {
			"cgroup.controllers":    "cpu memory\n",
			"pods/a/cpu.stat":       "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\n",
			"pods/a/memory.current": "8388608\n",
			"pods/a/memory.stat":    "anon 1048576\nfile 7340032\ninactive_file 2097152\npgfault 77\npgmajfault 3\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			groups := cgroups{t.TempDir()}
			for file, text := range files {
				path := filepath.Join(groups.mount, file)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			read := groups.usageV1
			if groups.unified() {
				read = groups.usageV2
			}
			got, err := read("/pods/a")
			if err != nil || got != want {
				t.Errorf("usage is %+v, %v, want %+v", got, err, want)
			}
			if _, err := read("/pods/gone"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("usage of a group which is gone: %v, want %v", err, fs.ErrNotExist)
			}
		})
	}
}

// TestMachineUsage: on a machine which runs, time passes and memory is in use.
func TestMachineUsage(t *testing.T) {
	got, err := MachineUsage()
	if err != nil || got.CPU <= 0 || got.WorkingSet == 0 || got.WorkingSet > got.Memory || got.PageFaults == 0 {
		t.Errorf("usage of the machine is %+v, %v", got, err)
	}
}
