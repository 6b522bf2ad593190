package world

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// privateMounts cuts the mount namespace off from the machine's: what is
// mounted inside stays inside, and is gone with the last process.
func privateMounts() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	return nil
}

// mountProc shows the processes of our own pid namespace, and only those.
func mountProc() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	return nil
}

// nodePrograms is where a node sees podarium and the programs beside it, which
// on the machine may lie in a folder the node has of its own.
const nodePrograms = "/opt/podarium"

// mountNodeFiles gives a node the files which are a machine's own, and leaves
// the rest of the file system as the host has it:
//
//	/etc /opt   overlays: the host's files below, the node's own above;
//	            /opt/podarium is the folder our programs are in
//	/var/lib    the node's own; the image store in it is shared by all nodes
//	/var/log    the node's own
//	/run        empty at every start, as after a reboot
//	/sys        of the node's network namespace, with the host's cgroups
//
// Everything is put together under the node's folder first, for /var/lib will
// cover the state folder itself.
func mountNodeFiles(cfg Config, number int) error {
	node := func(parts ...string) string { return cfg.NodePath(number, parts...) }
	images, egress := node("var", "lib", "podarium", "images"), node("run", "podarium")
	for _, dir := range []string{images, node("var", "log"), node("run"), node("etc"), node("opt", "cni", "bin"), node("cgroup"), node("opt", filepath.Base(nodePrograms))} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make node folder: %w", err)
		}
	}
	if err := unix.Mount("tmpfs", node("run"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount %s: %w", node("run"), err)
	}
	if err := os.MkdirAll(egress, 0o755); err != nil {
		return fmt.Errorf("make node folder: %w", err)
	}
	if err := errors.Join(
		bind(cfg.Path("images"), images),
		bind(cfg.Path("egress"), egress),
		mountSys(node("cgroup")),
		overlay("/etc", node("etc"), node("etc.work")),
		overlay("/opt", node("opt"), node("opt.work")),
		bind(filepath.Dir(cfg.Executable), nodePrograms),
	); err != nil {
		return err
	}
	return errors.Join(
		bind(node("run"), "/run"),
		bind(node("var", "log"), "/var/log"),
		bind(node("var", "lib"), "/var/lib"), // last: it hides the state folder
	)
}

// bind shows source, with what is mounted in it, at target too.
func bind(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}

// overlay puts the files in upper over a folder of the host, which stays as it is.
func overlay(dir, upper, work string) error {
	if err := os.MkdirAll(work, 0o755); err != nil {
		return fmt.Errorf("make overlay work folder: %w", err)
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, upper, work)
	if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount overlay on %s (%s): %w", dir, options, err)
	}
	return nil
}

// mountSys mounts a sysfs of the node's own network namespace, so that
// /sys/class/net shows eth0 and not the host's interfaces, and brings the
// cgroup hierarchies back which the fresh sysfs hides.
func mountSys(spare string) error {
	const cgroups = "/sys/fs/cgroup"
	if err := bind(cgroups, spare); err != nil {
		return err
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount(spare, cgroups, "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("move cgroups to %s: %w", cgroups, err)
	}
	return nil
}

// setSysctl writes a kernel setting, "net/ipv4/ip_forward"; they are per
// network namespace, so the machine's own stay what they are.
func setSysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}
