package runtime

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Container is what shall run; the runtime knows nothing of pods.
type Container struct {
	Layers []string // directories of the image's layers, bottom first
	Args   []string
	Env    []string // NAME=value
	Cwd    string
	User   User
	Mounts []Mount
	// Files are empty files which Create makes in the container's directory, writable by all.
	Files []string

	Namespaces   Namespaces
	CgroupPath   string // /kubepods/burstable/podUID/ID, below the root of every hierarchy
	CPUShares    uint64 // 1024 is one CPU's worth of weight
	CPUQuota     int64  // microseconds of CPU in 100 ms; 0 is no limit
	MemoryLimit  int64  // bytes; 0 is no limit
	OOMScoreAdj  int    // never negative: that needs CAP_SYS_RESOURCE
	Capabilities []string
	Privileged   bool // all capabilities and devices, nothing masked
	ReadOnlyRoot bool
	NoNewPrivs   bool
	MaskProc     bool // hide the parts of /proc and /sys which show or change the machine
	// Seccomp is which system calls are allowed: all (Unconfined, also when empty), those of
	// RuntimeDefault, or those of the profile in a file, by its absolute path.
	Seccomp string

	Stdin, StdinOnce, TTY bool

	// Hold is a file on which the shim has a shared lock (flock(2)) as long as the container runs; may be empty.
	Hold string
}

// Mount is a bind mount into the container.
type Mount struct {
	Source, Destination string
	ReadOnly            bool
	Recursive           bool // read-only are also the mounts below it
	// Propagation is rprivate (also when empty), rslave or rshared.
	Propagation string
}

// spec writes the container in the words of the OCI runtime specification.
func (c Container) spec(user ids) (*specs.Spec, error) {
	caps := c.Capabilities
	if c.Privileged {
		caps = AllCapabilities()
	}
	groups := slices.Clone(user.Groups)
	adj := c.OOMScoreAdj
	spec := &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: rootfsDir, Readonly: c.ReadOnlyRoot},
		Process: &specs.Process{
			Terminal: c.TTY, Args: c.Args, Env: c.environment(user), Cwd: c.Cwd,
			User:            specs.User{UID: user.UID, GID: user.GID, AdditionalGids: groups},
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			NoNewPrivileges: c.NoNewPrivs, OOMScoreAdj: &adj,
		},
		Mounts: append(c.kernelMounts(), c.bindMounts()...),
		Linux: &specs.Linux{
			Namespaces:  c.Namespaces.list(),
			CgroupsPath: c.CgroupPath,
			Resources:   c.resources(),
		},
	}
	if spec.Process.Cwd == "" {
		spec.Process.Cwd = "/"
	}
	if c.Privileged {
		spec.Linux.Devices = hostDevices()
		return spec, nil
	}
	if c.MaskProc {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = append(thermalPaths(), maskedPaths...), readonlyPaths
	}
	var err error
	spec.Linux.Seccomp, err = seccompFilter(c.Seccomp, spec)
	return spec, err
}

// Parts of /proc and /sys which tell about the machine or change it, as Kubernetes hides them.
var (
	maskedPaths = []string{
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
		"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// thermalPaths tell when a processor got too hot, and so what others do with it.
func thermalPaths() []string {
	paths, _ := filepath.Glob("/sys/devices/system/cpu/cpu*/thermal_throttle") // the pattern is good
	return paths
}

// environment adds PATH and HOME, which a program may expect, unless they are given.
func (c Container) environment(user ids) []string {
	env := slices.Clone(c.Env)
	has := func(name string) bool {
		return slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	if !has("PATH") {
		env = append(env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if c.TTY && !has("TERM") {
		env = append(env, "TERM=xterm")
	}
	if !has("HOME") {
		env = append(env, "HOME="+user.Home)
	}
	return env
}

func (c Container) kernelMounts() []specs.Mount {
	sys, cgroup := []string{"nosuid", "noexec", "nodev", "ro"}, []string{"nosuid", "noexec", "nodev", "relatime", "ro"}
	if c.Privileged {
		sys, cgroup = []string{"nosuid", "noexec", "nodev", "rw"}, []string{"nosuid", "noexec", "nodev", "relatime", "rw"}
	}
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: sys},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: cgroup},
	}
}

// bindMounts puts parents before children: /data before /data/sub.
func (c Container) bindMounts() []specs.Mount {
	mounts := make([]specs.Mount, 0, len(c.Mounts))
	for _, m := range c.Mounts {
		propagation := m.Propagation
		if propagation == "" {
			propagation = "rprivate"
		}
		options := []string{"rbind", propagation, "rw"}
		switch {
		case m.ReadOnly && m.Recursive:
			options[2] = "rro"
		case m.ReadOnly:
			options[2] = "ro"
		}
		mounts = append(mounts, specs.Mount{Destination: filepath.Clean(m.Destination), Type: "bind", Source: m.Source, Options: options})
	}
	slices.SortStableFunc(mounts, func(a, b specs.Mount) int {
		return strings.Count(a.Destination, "/") - strings.Count(b.Destination, "/")
	})
	return mounts
}

// cpuPeriod is the length of the interval in which a CPU quota is counted: 100 ms, in microseconds.
const cpuPeriod = 100_000

func (c Container) resources() *specs.LinuxResources {
	shares := max(c.CPUShares, 2)
	r := &specs.LinuxResources{
		CPU:     &specs.LinuxCPU{Shares: &shares},
		Devices: []specs.LinuxDeviceCgroup{{Allow: c.Privileged, Access: "rwm"}},
	}
	if c.CPUQuota > 0 {
		quota, period := c.CPUQuota, uint64(cpuPeriod)
		r.CPU.Quota, r.CPU.Period = &quota, &period
	}
	if c.MemoryLimit > 0 {
		limit := c.MemoryLimit
		r.Memory = &specs.LinuxMemory{Limit: &limit}
		if hostCgroups().countsSwap() {
			r.Memory.Swap = &limit // memory and swap together: none of it is swap
		}
	}
	return r
}

// ownDev are what a container has of its own in /dev.
var ownDev = []string{"console", "ptmx", "pts", "shm", "fd", "mqueue"}

// hostDevices are the device files in /dev, and in its directories: net/tun is one.
func hostDevices() []specs.LinuxDevice {
	var devices []specs.LinuxDevice
	_ = filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error { // what cannot be read is not there
		switch {
		case err != nil, filepath.Dir(path) == "/dev" && slices.Contains(ownDev, entry.Name()):
			if entry != nil && entry.IsDir() {
				return fs.SkipDir
			}
		case entry.Type()&os.ModeDevice != 0:
			if device, err := hostDevice(path, entry); err == nil {
				devices = append(devices, device)
			}
		}
		return nil
	})
	return devices
}

func hostDevice(path string, entry fs.DirEntry) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	kind := "b"
	if entry.Type()&os.ModeCharDevice != 0 {
		kind = "c"
	}
	mode := os.FileMode(st.Mode & 0o777)
	return specs.LinuxDevice{
		Path: path, Type: kind, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev)),
		FileMode: &mode, UID: &st.Uid, GID: &st.Gid,
	}, nil
}
