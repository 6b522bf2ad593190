package lab

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/internal/cgroup"
	"github.com/podarium/podarium/internal/mounts"
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
	return errors.Join(mounts.DetachBelow(cfg.Dir()), cgroup.Remove("podarium-"+cfg.Name))
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
