package shim

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
)

// PauseFile holds the pid of the process which keeps a pod's process namespace.
const PauseFile = "pause.pid"

// StartPause starts `podarium-shim pause dir` as process 1 of a new process namespace and writes its pid
// into dir. Only pods with shareProcessNamespace need it: a process namespace cannot be kept by a mount
// alone, it ends with its first process.
func StartPause(self, dir string) error {
	cmd := exec.Command(self, "pause", dir)
	cmd.Args[0] = "podarium-shim"
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, PauseFile), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600)
}

// Pause is that process: it collects the children which the pod's containers leave behind.
func Pause() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGINT)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
			if pid <= 0 && !errors.Is(err, syscall.EINTR) {
				break
			}
		}
	}
}
