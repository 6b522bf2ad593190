package shim

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// StartPause starts `podarium-shim pause` as process 1 of a new process namespace and prints its pid.
// Only pods with shareProcessNamespace need it: a process namespace cannot be kept by a mount alone,
// it ends with its first process.
func StartPause(self string) error {
	cmd := exec.Command(self, "pause")
	cmd.Args[0] = "podarium-shim"
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWPID}
	if err := cmd.Start(); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid)
	return cmd.Process.Release()
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
