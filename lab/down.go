package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/lab/world"
)

// worldGrace is how long a world may take to stop its nodes in good order.
const worldGrace = world.NodeGrace + 3*time.Second

// Down ends a lab and removes everything of it: processes (and with them
// namespaces, interfaces, rules and mounts), cgroups, the kubectl context, and
// unless keepState the state folder with the cluster's objects. It works on
// whatever a crash has left, and says so when there was nothing.
func Down(name string, keepState bool) (found bool, err error) {
	if err := world.ValidName(name); err != nil {
		return false, err
	}
	if os.Geteuid() != 0 {
		return false, errors.New("needs root: run it with sudo")
	}
	pid, err := findWorld(name)
	if err != nil {
		return false, err
	}
	found = pid != 0 || exists(world.Dir(name))
	if pid != 0 {
		if err := endWorld(pid, keepState); err != nil {
			return found, fmt.Errorf("end lab %s: %w", name, err)
		}
	}
	cfg := world.Config{Name: name} // enough for names and paths, also when lab.json is damaged
	if err := clean(cfg); err != nil {
		return found, err
	}
	if keepState {
		return found, nil
	}
	if err := removeContext(cfg); err != nil {
		return found, err
	}
	if err := os.RemoveAll(cfg.Dir()); err != nil {
		return found, fmt.Errorf("remove state of lab %s: %w", name, err)
	}
	if err := os.Remove(world.Root); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return found, fmt.Errorf("remove %s: %w", world.Root, err)
	}
	return found, nil
}

// clean removes what outlives processes. It is also the first step of `up`,
// for a world that was killed left its cgroups behind.
func clean(cfg world.Config) error {
	return errors.Join(unmountBelow(cfg.Dir()), removeCgroups(cfg))
}

// endWorld kills the world's PID 1; the kernel kills all others in its pid
// namespace before that counts as ended. When the state is kept, the
// components are asked to stop first.
func endWorld(pid int, gracefully bool) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(pidfd) }()
	if gracefully {
		_ = unix.PidfdSendSignal(pidfd, unix.SIGTERM, nil, 0)
		if ended, err := waitPidfd(pidfd, worldGrace); err != nil || ended {
			return err
		}
	}
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	ended, err := waitPidfd(pidfd, 30*time.Second)
	if err == nil && !ended {
		err = fmt.Errorf("process %d does not end", pid)
	}
	return err
}

// waitPidfd waits for a process which is not our child.
func waitPidfd(pidfd int, timeout time.Duration) (ended bool, err error) {
	deadline := time.Now().Add(timeout)
	for {
		left := max(time.Until(deadline), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds()))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("wait for process: %w", err)
		}
		return n > 0, nil
	}
}

// unmountBelow detaches mounts in the machine's namespace below dir. The lab
// makes none there; an interrupted hand may have.
func unmountBelow(dir string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("list mounts: %w", err)
	}
	var points []string
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	slices.Reverse(points) // the inner ones first
	for _, p := range points {
		if err := unix.Unmount(p, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", p, err)
		}
	}
	return nil
}

// removeCgroups removes the lab's groups in every hierarchy, v1 and v2. Their
// processes are dead, but the kernel may need a moment to notice.
func removeCgroups(cfg world.Config) error {
	pattern := "podarium-" + cfg.Name
	var roots []string
	for _, glob := range []string{"/sys/fs/cgroup/" + pattern, "/sys/fs/cgroup/*/" + pattern} {
		found, err := filepath.Glob(glob)
		if err != nil {
			return fmt.Errorf("find cgroups: %w", err)
		}
		roots = append(roots, found...)
	}
	var errs []error
	for _, root := range roots {
		errs = append(errs, removeCgroup(root))
	}
	return errors.Join(errs...)
}

func removeCgroup(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("walk cgroup %s: %w", root, err)
	}
	slices.Reverse(dirs) // children first
	for _, dir := range dirs {
		if err := removeEmptyCgroup(dir); err != nil {
			return err
		}
	}
	return nil
}

// removeEmptyCgroup retries while the kernel says busy: there is no event for
// "the last dead process has left a v1 group".
func removeEmptyCgroup(dir string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); ; <-tick.C {
		err := unix.Rmdir(dir)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
}
