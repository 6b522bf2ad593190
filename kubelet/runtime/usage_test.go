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

// TestRootMemory: the root group has other files than those below it.
func TestRootMemory(t *testing.T) {
	type result struct {
		used, workingSet uint64
		ok               bool
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  result
	}{
		"v1": {
			map[string]string{"memory/memory.usage_in_bytes": "8192\n", "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 2048\n"},
			result{8192, 6144, true},
		},
		"hybrid": {
			map[string]string{"unified/cgroup.controllers": "\n", "memory/memory.usage_in_bytes": "8192\n", "memory/memory.stat": "total_inactive_file 2048\n"},
			result{8192, 6144, true},
		},
		"v2":                     {map[string]string{"cgroup.controllers": "memory\n", "memory.stat": "anon 4096\nfile 4096\ninactive_file 2048\n"}, result{8192, 6144, true}},
		"v2 of an old kernel":    {map[string]string{"cgroup.controllers": "memory\n"}, result{}},
		"v1 without memory":      {map[string]string{"cpu/cpu.shares": "1024\n"}, result{}},
		"v1 that counts nothing": {map[string]string{"memory/memory.usage_in_bytes": "0\n", "memory/memory.stat": ""}, result{}},
	} {
		groups := cgroups{t.TempDir()}
		for file, text := range test.files {
			path := filepath.Join(groups.mount, file)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		used, workingSet, ok := groups.rootMemory()
		if got := (result{used, workingSet, ok}); got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}

// TestRunningTasks: the second number of the fourth field.
func TestRunningTasks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "loadavg")
	for text, want := range map[string]uint64{"1.36 3.49 4.53 2/3518 3715089\n": 3518, "1.36 3.49 4.53 3715089\n": 0, "": 0, "1 2 3 4/x 5": 0} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := runningTasks(file); got != want || (err != nil) != (want == 0) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	running, most, err := MachineTasks()
	if err != nil || running == 0 || running >= most {
		t.Errorf("the machine has %d of %d tasks, %v", running, most, err)
	}
}
