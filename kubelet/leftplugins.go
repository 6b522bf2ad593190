package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// pluginPatience is how long a plugin of an earlier kubelet may take to its end.
const pluginPatience = 10 * time.Second

// awaitLeftPlugins waits for CNI plugins which an earlier kubelet started before it was killed. An ADD
// which ends after our DEL for the same pod would leave an address and a cable to nobody.
func awaitLeftPlugins(ctx context.Context, binDir string) error {
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	pids, err := runningPlugins(binDir)
	if err != nil {
		return err
	}
	for _, pid := range pids {
		slog.Info("Waiting for a CNI plugin of an earlier kubelet", "pid", pid)
		if err := awaitEnd(ctx, pid); err != nil {
			slog.Warn("CNI plugin of an earlier kubelet still runs", "pid", pid, "error", err)
		}
	}
	return nil
}

// runningPlugins finds plugins, and those which they call, by the environment that the specification gives
// them: CNI_COMMAND=ADD, CNI_PATH=/opt/cni/bin.
func runningPlugins(binDir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find plugins of an earlier kubelet: %w", err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		environment, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "environ")) // none when it ends just now
		variables := bytes.Split(environment, []byte{0})
		verb := slices.ContainsFunc(variables, func(v []byte) bool { return bytes.HasPrefix(v, []byte("CNI_COMMAND=")) })
		ours := slices.ContainsFunc(variables, func(v []byte) bool { return string(v) == "CNI_PATH="+binDir })
		if verb && ours {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// awaitEnd waits for the end of a process which is not our child.
func awaitEnd(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	for {
		left := time.Minute
		if deadline, ok := ctx.Deadline(); ok {
			left = time.Until(deadline)
		}
		if left <= 0 {
			return context.DeadlineExceeded
		}
		// A process descriptor is readable when the process has ended.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n > 0:
			return nil
		}
	}
}
