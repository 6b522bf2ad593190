// Package nstest gives a test a network of its own.
//
// Everything a test does to interfaces, routes and rules happens in
// namespaces made for it, so tests cannot see each other or the machine, and
// nothing is left when one crashes: an unnamed namespace lives as long as a
// thread or a process is in it.
package nstest

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Enter moves the calling test into a new network namespace with lo up. The
// goroutine is locked to its thread, which ends with the test; commands
// started with os/exec run inside, goroutines do not.
func Enter(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make network namespace: %v", err)
	}
	Run(t, "ip", "link", "set", "lo", "up")
}

// Host is a second machine for a test: a network namespace held open by a
// process of its own, which ends with the test.
type Host struct {
	pid int
}

// New makes a Host with lo up.
func New(t testing.TB) *Host {
	t.Helper()
	NeedRoot(t)
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // Pdeathsig follows the thread, so keep it until the process has ended
	if err := cmd.Start(); err != nil {
		t.Fatalf("make host: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		runtime.UnlockOSThread()
	})
	h := &Host{pid: cmd.Process.Pid}
	h.Run(t, "ip", "link", "set", "lo", "up")
	return h
}

// Path is the namespace's file, for setns and for netns.Do.
func (h *Host) Path() string { return "/proc/" + strconv.Itoa(h.pid) + "/ns/net" }

// Pid is the process that holds the namespace, for `ip link set … netns PID`.
func (h *Host) Pid() int { return h.pid }

// Run runs a command inside and returns its standard output; the test fails
// with the command's own words when it fails.
func (h *Host) Run(t testing.TB, args ...string) string {
	t.Helper()
	return Run(t, append([]string{"nsenter", "--net=" + h.Path()}, args...)...)
}

// Try is Run for a command that may fail.
func (h *Host) Try(args ...string) (string, error) {
	out, err := exec.Command("nsenter", append([]string{"--net=" + h.Path()}, args...)...).CombinedOutput()
	return string(out), err
}

// Run runs a command in the namespace of the calling thread.
func Run(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, errs.String())
	}
	return string(out)
}

// NeedRoot is for every test that makes namespaces, mounts or containers. With
// -short, which asks for the tests that need nothing, it skips; else, without
// root, it fails: a test which does not run looks like one which passes.
func NeedRoot(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs root")
	}
	if os.Geteuid() != 0 {
		t.Fatal("namespaces need root: run the tests with sudo, or with -short without them")
	}
}
