package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/kubelet/shim"
)

// Namespaces tells which namespaces a container has. A path joins the one which a file keeps, HostNS
// joins the node's, and the empty string makes a new one for the container alone.
type Namespaces struct {
	Network, IPC, UTS, PID string
}

// HostNS means: the node's own namespace.
const HostNS = "host"

func (n Namespaces) list() []specs.LinuxNamespace {
	list := []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	for _, ns := range []struct {
		kind specs.LinuxNamespaceType
		path string
	}{
		{specs.NetworkNamespace, n.Network},
		{specs.IPCNamespace, n.IPC},
		{specs.UTSNamespace, n.UTS},
		{specs.PIDNamespace, n.PID},
	} {
		if ns.path != HostNS {
			list = append(list, specs.LinuxNamespace{Type: ns.kind, Path: ns.path})
		}
	}
	return append(list, specs.LinuxNamespace{Type: specs.CgroupNamespace})
}

// NewNamespaces says what NewPodNamespaces shall make.
type NewNamespaces struct {
	Network, IPC, UTS bool
	Hostname          string
	// Sysctls are set in the new namespaces: net.ipv4.ip_unprivileged_port_start=0. Whether they belong to these
	// namespaces is for the caller to know. A slash in a name stands for a dot: net.ipv4.conf.eth0/100.rp_filter.
	Sysctls map[string]string
}

// NewPodNamespaces makes namespaces and keeps them by bind mounts on dir/net, dir/ipc, dir/uts.
func NewPodNamespaces(dir string, want NewNamespaces) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	result := make(chan error, 1)
	go onThrowawayThread(func() { result <- makeNamespaces(dir, want) })
	if err := <-result; err != nil {
		return errors.Join(err, RemovePodNamespaces(dir))
	}
	return nil
}

// onThrowawayThread runs fn on an operating system thread which nobody uses afterwards: a goroutine
// that ends while it is locked takes its thread with it, and with the thread its changed namespaces.
// The process's first thread cannot end, and /proc/PID shows its namespaces, so it is left alone.
func onThrowawayThread(fn func()) {
	goruntime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		done := make(chan struct{})
		go func() { onThrowawayThread(fn); close(done) }()
		<-done
		goruntime.UnlockOSThread()
		return
	}
	fn()
}

func makeNamespaces(dir string, want NewNamespaces) error {
	flags := 0
	kinds := []struct {
		name string
		want bool
		flag int
	}{{"net", want.Network, unix.CLONE_NEWNET}, {"ipc", want.IPC, unix.CLONE_NEWIPC}, {"uts", want.UTS, unix.CLONE_NEWUTS}}
	for _, kind := range kinds {
		if kind.want {
			flags |= kind.flag
		}
	}
	if err := unix.Unshare(flags); err != nil {
		return fmt.Errorf("make namespaces: %w", err)
	}
	if want.UTS {
		if err := unix.Sethostname([]byte(want.Hostname)); err != nil {
			return fmt.Errorf("set host name %s: %w", want.Hostname, err)
		}
	}
	if want.Network {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	for name, value := range want.Sysctls {
		path := filepath.Join("/proc/sys", strings.NewReplacer(".", "/", "/", ".").Replace(name))
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("set sysctl %s=%s: %w", name, value, err)
		}
	}
	for _, kind := range kinds {
		if !kind.want {
			continue
		}
		if err := keepNamespace("/proc/thread-self/ns/"+kind.name, filepath.Join(dir, kind.name)); err != nil {
			return err
		}
	}
	return nil
}

func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set loopback interface up: %w", err)
	}
	return nil
}

// keepNamespace binds a namespace to a file: it lives as long as the mount does.
func keepNamespace(from, file string) error {
	if err := os.WriteFile(file, nil, 0o444); err != nil {
		return fmt.Errorf("keep namespace: %w", err)
	}
	if err := unix.Mount(from, file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("keep namespace %s: %w", file, err)
	}
	return nil
}

// NewPIDNamespace makes a process namespace for a whole pod, kept by dir/pid and by the small process
// which is number 1 in it.
func (r *Runtime) NewPIDNamespace(ctx context.Context, dir string) error {
	if out, err := exec.CommandContext(ctx, r.shimPath, "start-pause", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("start first process of pod: %w: %s", err, bytes.TrimSpace(out))
	}
	pid, err := os.ReadFile(filepath.Join(dir, shim.PauseFile))
	if err != nil {
		return fmt.Errorf("start first process of pod: %w", err)
	}
	return keepNamespace("/proc/"+string(pid)+"/ns/pid", filepath.Join(dir, "pid"))
}

// RemovePodNamespaces gives up what NewPodNamespaces and NewPIDNamespace made in dir.
func RemovePodNamespaces(dir string) error {
	if err := endPause(dir); err != nil {
		return err
	}
	for _, name := range []string{"net", "ipc", "uts", "pid"} {
		file := filepath.Join(dir, name)
		if err := unmount(file); err != nil {
			return err
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove namespace file: %w", err)
		}
	}
	return nil
}

// endPause ends the first process of a shared process namespace, if it is still that: after a reboot
// the number belongs to somebody else.
func endPause(dir string) error {
	file := filepath.Join(dir, shim.PauseFile)
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(data))
	if err == nil && isPause(pid, dir) {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end first process of pod: %w", err)
		}
	}
	return os.Remove(file)
}

// isPause tells whether a process is `podarium-shim pause dir`.
func isPause(pid int, dir string) bool {
	command, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.HasSuffix(command, []byte("\x00pause\x00"+dir+"\x00"))
}

// PIDNamespace is the path of a running container's process namespace.
func (r *Runtime) PIDNamespace(id string) string {
	data, err := os.ReadFile(filepath.Join(r.bundleDir(id), shim.PidFile))
	if err != nil {
		return ""
	}
	return "/proc/" + strings.TrimSpace(string(data)) + "/ns/pid"
}

// NetworkCounters is the file in which the kernel counts what went through the interfaces of a running
// container's network namespace.
func (r *Runtime) NetworkCounters(id string) string {
	data, err := os.ReadFile(filepath.Join(r.bundleDir(id), shim.PidFile))
	if err != nil {
		return ""
	}
	return "/proc/" + strings.TrimSpace(string(data)) + "/net/dev"
}
