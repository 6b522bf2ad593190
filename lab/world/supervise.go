package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// A process which ended is started again at once the first time, then after a
// pause that doubles up to restartMax, until it has run for restartReset.
const (
	restartMin   = 100 * time.Millisecond
	restartMax   = 5 * time.Second
	restartReset = 10 * time.Second
)

// reaper is PID 1's duty: it waits for every process that ends in its pid
// namespace, its own children and the orphans it inherits, and tells those
// who started a child. It must be the only one to wait (wait4(-1) would steal
// the children of os/exec), so everything in such a process starts its
// children through start.
type reaper struct {
	mu      sync.Mutex // held from fork to registration, so no exit is missed
	waiting map[int]chan syscall.WaitStatus
}

func newReaper() *reaper {
	r := &reaper{waiting: map[int]chan syscall.WaitStatus{}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	go func() {
		for range signals {
			r.reap()
		}
	}()
	return r
}

// reap collects all that have ended by now; one SIGCHLD may stand for many.
func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if ended, ok := r.waiting[pid]; ok {
			ended <- status // has room for one
			delete(r.waiting, pid)
		}
	}
}

// spawn is what a child process starts with.
type spawn struct {
	path  string // the program
	argv  []string
	more  func() []string // further arguments, asked for at each start; may be nil
	env   []string
	files []uintptr // from file descriptor 0 on
	attr  *syscall.SysProcAttr
}

// start forks, and returns the pid and the channel that will tell its end.
func (r *reaper) start(s spawn) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	argv := slices.Clone(s.argv)
	if s.more != nil {
		argv = append(argv, s.more()...)
	}
	pid, err := syscall.ForkExec(s.path, argv, &syscall.ProcAttr{Env: s.env, Files: s.files, Sys: s.attr})
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", s.argv[0], err)
	}
	ended := make(chan syscall.WaitStatus, 1)
	r.waiting[pid] = ended
	return pid, ended, nil
}

// keep starts a process again whenever it ends, until ctx is done; then it is
// asked to stop and, after grace, killed. It returns when the process is gone.
func (r *reaper) keep(ctx context.Context, grace time.Duration, s spawn) {
	pause := time.Duration(0)
	for ctx.Err() == nil {
		began := time.Now()
		pid, ended, err := r.start(s)
		if err != nil {
			slog.Error("process not started", "process", s.argv[0], "err", err)
		} else {
			slog.Info("process started", "process", s.argv[0], "pid", pid)
			status, stopped := waitOrStop(ctx, pid, ended, grace)
			if stopped {
				return
			}
			slog.Info("process ended", "process", s.argv[0], "pid", pid, "status", describe(status))
		}
		if time.Since(began) > restartReset {
			pause = 0
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(max(pause*2, restartMin), restartMax)
	}
}

// waitOrStop returns the status of a process that ended by itself, or stops it.
func waitOrStop(ctx context.Context, pid int, ended <-chan syscall.WaitStatus, grace time.Duration) (syscall.WaitStatus, bool) {
	select {
	case status := <-ended:
		return status, false
	case <-ctx.Done():
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // ended already: nothing to stop
	select {
	case <-ended:
	case <-time.After(grace):
		_ = syscall.Kill(pid, syscall.SIGKILL)
		<-ended
	}
	return 0, true
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
