package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// cgroups are the control groups of a machine. Version 2 has one hierarchy, and a group's controllers
// have to be switched on in all groups above it. Version 1 has a hierarchy for each controller (cpu,
// memory, …), and perhaps "unified", which is version 2 without controllers: this is called hybrid.
type cgroups struct{ mount string }

func hostCgroups() cgroups { return cgroups{"/sys/fs/cgroup"} }

func (c cgroups) unified() bool {
	_, err := os.Stat(filepath.Join(c.mount, "cgroup.controllers"))
	return err == nil
}

// hierarchies are their roots: the mount itself with version 2, the directories in it with version 1.
func (c cgroups) hierarchies() []string {
	if c.unified() {
		return []string{c.mount}
	}
	entries, err := os.ReadDir(c.mount)
	if err != nil {
		return nil
	}
	var roots []string
	for _, entry := range entries {
		if entry.IsDir() { // cpu,cpuacct is a directory, cpu may be a link to it
			roots = append(roots, filepath.Join(c.mount, entry.Name()))
		}
	}
	return roots
}

// countsSwap tells whether the kernel bounds swap, too, when it bounds memory; it may be built or started without.
func (c cgroups) countsSwap() bool {
	if c.unified() {
		files, _ := filepath.Glob(filepath.Join(c.mount, "*", "memory.swap.max")) // the root has none
		return len(files) > 0
	}
	_, err := os.Stat(filepath.Join(c.mount, "memory", "memory.memsw.limit_in_bytes"))
	return err == nil
}

// CgroupLimits are what the containers in a control group may use together.
type CgroupLimits struct {
	CPUShares   uint64 // 1024 is one CPU's worth of weight; 0 leaves it as it is
	CPUQuota    int64  // microseconds of CPU in 100 ms; 0 is no limit
	MemoryLimit int64  // bytes; 0 is no limit
}

// SetCgroup makes a control group with these limits, and the groups above it. What it does not name
// (pids, io) runc adds when it makes a container's group below.
func SetCgroup(path string, limits CgroupLimits) error {
	set := hostCgroups().setV1
	if hostCgroups().unified() {
		set = hostCgroups().setV2
	}
	if err := set(path, limits); err != nil {
		return fmt.Errorf("make control group %s: %w", path, err)
	}
	return nil
}

func (c cgroups) setV1(path string, limits CgroupLimits) error {
	cpu, memory := filepath.Join(c.mount, "cpu", path), filepath.Join(c.mount, "memory", path)
	if err := errors.Join(os.MkdirAll(cpu, 0o755), os.MkdirAll(memory, 0o755)); err != nil {
		return err
	}
	var errs []error
	write := func(dir, file string, value int64) {
		errs = append(errs, os.WriteFile(filepath.Join(dir, file), []byte(strconv.FormatInt(value, 10)), 0o644))
	}
	if limits.CPUShares > 0 {
		write(cpu, "cpu.shares", int64(limits.CPUShares))
	}
	if limits.CPUQuota > 0 {
		write(cpu, "cpu.cfs_period_us", cpuPeriod)
		write(cpu, "cpu.cfs_quota_us", limits.CPUQuota)
	}
	if limits.MemoryLimit > 0 {
		write(memory, "memory.limit_in_bytes", limits.MemoryLimit)
	}
	return errors.Join(errs...)
}

func (c cgroups) setV2(path string, limits CgroupLimits) error {
	dir := filepath.Join(c.mount, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := c.delegate(path); err != nil {
		return err
	}
	var errs []error
	write := func(file, value string) {
		errs = append(errs, os.WriteFile(filepath.Join(dir, file), []byte(value), 0o644))
	}
	if limits.CPUShares > 0 {
		write("cpu.weight", strconv.FormatUint(cpuWeight(limits.CPUShares), 10))
	}
	if limits.CPUQuota > 0 {
		write("cpu.max", fmt.Sprintf("%d %d", limits.CPUQuota, cpuPeriod))
	}
	if limits.MemoryLimit > 0 {
		write("memory.max", strconv.FormatInt(limits.MemoryLimit, 10))
	}
	return errors.Join(errs...)
}

// delegate switches cpu and memory on for the groups on the way down to path: a group has the
// controllers which its parent's cgroup.subtree_control lists.
func (c cgroups) delegate(path string) error {
	dir := c.mount
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		control := filepath.Join(dir, "cgroup.subtree_control")
		have, err := os.ReadFile(control)
		if err != nil {
			return err
		}
		for _, controller := range []string{"cpu", "memory"} {
			if slices.Contains(strings.Fields(string(have)), controller) {
				continue
			}
			if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
				return fmt.Errorf("switch controller %s on below %s: %w", controller, dir, err)
			}
		}
		dir = filepath.Join(dir, name)
	}
	return nil
}

// cpuWeight turns version 1's shares, 2 to 262144, into version 2's weight, 1 to 10000, by the formula
// which runc uses too (KEP-2254).
func cpuWeight(shares uint64) uint64 {
	return 1 + (min(max(shares, 2), 262144)-2)*9999/262142
}

// RemoveCgroup removes a control group with all groups below it, from every hierarchy. runc removes a
// container's own group, not its parents.
func RemoveCgroup(path string) error {
	for _, hierarchy := range hostCgroups().hierarchies() {
		top := filepath.Join(hierarchy, path)
		var dirs []string
		err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("list control group %s: %w", path, err)
		}
		slices.Reverse(dirs) // children first
		for _, dir := range dirs {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				return fmt.Errorf("remove control group %s: %w", dir, err)
			}
		}
	}
	return nil
}

// Cgroups lists the names of the groups directly below path in any hierarchy.
func Cgroups(path string) []string {
	var names []string
	for _, hierarchy := range hostCgroups().hierarchies() {
		entries, err := os.ReadDir(filepath.Join(hierarchy, path))
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if entry.IsDir() && !slices.Contains(names, entry.Name()) {
				names = append(names, entry.Name())
			}
		}
	}
	return names
}
