package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what the processes of a control group have taken.
type Usage struct {
	CPU time.Duration // of processors' time, since the group was made
	// Memory is what is charged to the group, in bytes; WorkingSet is without the file pages which nobody
	// has touched for a while, and which the kernel gives away first; RSS is without any file pages.
	Memory, WorkingSet, RSS     uint64
	PageFaults, MajorPageFaults uint64
}

// CgroupUsage reads the usage of a control group. A group which is gone is fs.ErrNotExist.
func CgroupUsage(path string) (Usage, error) {
	read := hostCgroups().usageV1
	if hostCgroups().unified() {
		read = hostCgroups().usageV2
	}
	usage, err := read(path)
	if err != nil {
		return Usage{}, fmt.Errorf("read usage of control group %s: %w", path, err)
	}
	return usage, nil
}

func (c cgroups) usageV1(path string) (Usage, error) {
	cpu, cpuErr := readNumber(filepath.Join(c.mount, "cpuacct", path, "cpuacct.usage"))
	memory := filepath.Join(c.mount, "memory", path)
	used, usedErr := readNumber(filepath.Join(memory, "memory.usage_in_bytes"))
	stat, statErr := readPairs(filepath.Join(memory, "memory.stat"))
	return Usage{
		CPU: time.Duration(cpu), Memory: used, WorkingSet: used - min(used, stat["total_inactive_file"]), RSS: stat["total_rss"],
		PageFaults: stat["total_pgfault"], MajorPageFaults: stat["total_pgmajfault"],
	}, errors.Join(cpuErr, usedErr, statErr)
}

func (c cgroups) usageV2(path string) (Usage, error) {
	dir := filepath.Join(c.mount, path)
	cpu, cpuErr := readPairs(filepath.Join(dir, "cpu.stat"))
	used, usedErr := readNumber(filepath.Join(dir, "memory.current"))
	stat, statErr := readPairs(filepath.Join(dir, "memory.stat"))
	return Usage{
		CPU: time.Duration(cpu["usage_usec"]) * time.Microsecond, Memory: used, WorkingSet: used - min(used, stat["inactive_file"]), RSS: stat["anon"],
		PageFaults: stat["pgfault"], MajorPageFaults: stat["pgmajfault"],
	}, errors.Join(cpuErr, usedErr, statErr)
}

func readNumber(file string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
}

// readPairs reads lines such as "inactive_file 4096".
func readPairs(file string) (map[string]uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pairs := map[string]uint64{}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if number, err := strconv.ParseUint(value, 10, 64); err == nil {
			pairs[name] = number
		}
	}
	return pairs, nil
}

// MachineUsage is the usage of all there is on the machine: of each processor's time what was not idle,
// and of the memory what is charged to the root control group, as upstream has it.
//
// Not every kernel tells of the root group: with version 2 its memory.stat is younger than those of other
// groups, and the memory controller may be off. The kernel's own estimate of what is to be had has to serve then.
func MachineUsage() (Usage, error) {
	cpu, cpuErr := busyTime("/proc/stat")
	memory, memoryErr := meminfo("/proc/meminfo")
	events, eventsErr := readPairs("/proc/vmstat")
	total := memory["MemTotal"]
	used, workingSet, ok := hostCgroups().rootMemory()
	if !ok {
		used, workingSet = total-memory["MemFree"], total-memory["MemAvailable"]
	}
	return Usage{
		CPU: cpu, Memory: used, WorkingSet: workingSet, RSS: memory["AnonPages"],
		PageFaults: events["pgfault"], MajorPageFaults: events["pgmajfault"],
	}, errors.Join(cpuErr, memoryErr, eventsErr)
}

// rootMemory is what is charged to the root group, and its working set; false when the kernel gives no
// number. With version 2 the root has no memory.current: what memory.stat tells is added up to what version 1 counts.
func (c cgroups) rootMemory() (used, workingSet uint64, ok bool) {
	dir, inactive := c.mount, "inactive_file"
	if !c.unified() {
		dir, inactive = filepath.Join(c.mount, "memory"), "total_inactive_file"
	}
	stat, err := readPairs(filepath.Join(dir, "memory.stat"))
	if err != nil {
		return 0, 0, false
	}
	if c.unified() {
		used = stat["anon"] + stat["file"]
	} else if used, err = readNumber(filepath.Join(dir, "memory.usage_in_bytes")); err != nil {
		return 0, 0, false
	}
	return used, used - min(used, stat[inactive]), used > 0
}

// CgroupTasks is how many processes and threads there are in a control group and those below it.
func CgroupTasks(path string) (uint64, error) {
	tasks, err := readNumber(hostCgroups().tasksFile(path))
	if err != nil {
		return 0, fmt.Errorf("count tasks of control group %s: %w", path, err)
	}
	return tasks, nil
}

func (c cgroups) tasksFile(path string) string {
	if c.unified() {
		return filepath.Join(c.mount, path, "pids.current")
	}
	return filepath.Join(c.mount, "pids", path, "pids.current")
}

// MachineTasks is how many processes and threads there are on the machine, and how many there may be.
func MachineTasks() (running, most uint64, err error) {
	maxPID, pidErr := readNumber("/proc/sys/kernel/pid_max")
	maxThreads, threadsErr := readNumber("/proc/sys/kernel/threads-max")
	running, runningErr := runningTasks("/proc/loadavg")
	return running, min(maxPID, maxThreads), errors.Join(pidErr, threadsErr, runningErr)
}

// runningTasks reads the second number of "2/3518" in "1.36 3.49 4.53 2/3518 3715089": all tasks, of which two run just now.
func runningTasks(file string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	if fields := strings.Fields(string(data)); len(fields) == 5 {
		if _, all, ok := strings.Cut(fields[3], "/"); ok {
			return strconv.ParseUint(all, 10, 64)
		}
	}
	return 0, fmt.Errorf("%s is %q: %w", file, data, fs.ErrInvalid)
}

// userHZ is the unit of /proc/stat: a hundredth of a second, on all architectures that Go has.
const userHZ = 10 * time.Millisecond

// busyTime adds up the line "cpu  user nice system idle iowait irq softirq steal guest guest_nice", without
// idle and iowait; guests' time is counted in user and nice already.
func busyTime(file string) (time.Duration, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("%s begins with %q: %w", file, line, fs.ErrInvalid)
	}
	busy := time.Duration(0)
	for _, at := range []int{1, 2, 3, 6, 7} {
		ticks, err := strconv.ParseInt(fields[at], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", file, err)
		}
		busy += time.Duration(ticks) * userHZ
	}
	return busy, nil
}

// meminfo reads lines such as "MemTotal:  24687144 kB", in bytes.
func meminfo(file string) (map[string]uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	values := map[string]uint64{}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) != 2 {
			continue
		}
		if kilobytes, err := strconv.ParseUint(fields[0], 10, 64); err == nil {
			values[name] = kilobytes << 10
		}
	}
	return values, nil
}
