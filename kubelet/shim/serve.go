package shim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// drainTimeout is how long output is awaited after the container's end. Its pipes close at once unless
// a process which shares the host's or the pod's process namespace still holds them.
const drainTimeout = time.Second

// Start starts `podarium-shim serve dir` in a session of its own and returns when the container runs,
// or with runc's complaint. The shim shares lock until then.
func Start(program, dir string, lock *os.File) error {
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer read.Close()
	cmd := exec.Command(program, "serve", dir)
	cmd.Args[0] = "podarium-shim" // what ps shows
	cmd.ExtraFiles = []*os.File{write, lock}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	write.Close()
	if err != nil {
		return err
	}
	// Nobody asks how it ended: exit.json tells that of the container, and for the shim's own sake it
	// only has to be collected. PID 1 does so when the kubelet is gone.
	go func() { _ = cmd.Wait() }()
	answer, err := io.ReadAll(read)
	if err != nil {
		return err
	}
	if text := string(answer); text != started {
		if text == "" {
			text = "shim ended before the container started"
		}
		return errors.New(text)
	}
	return nil
}

// started is what serve writes to its parent when the container runs; anything else is an error text.
const started = "started"

// Serve is the life of a shim: start the container of dir, keep its output, report its end.
func Serve(dir string) error {
	runtime.GOMAXPROCS(1)  // one thread for Go code is plenty, and saves the memory of others
	syscall.CloseOnExec(3) // neither runc nor the container shall hold them open
	syscall.CloseOnExec(4)
	parent, lock := os.NewFile(3, "parent"), os.NewFile(4, StartLock)
	err := serve(dir, parent, lock)
	if err != nil {
		fmt.Fprint(parent, err)
		parent.Close()
	}
	return err
}

func serve(dir string, parent, lock *os.File) error {
	if err := os.Chdir(dir); err != nil {
		return err
	}
	var task Task
	if err := ReadFile(TaskFile, &task); err != nil {
		return fmt.Errorf("read task: %w", err)
	}
	hold, err := task.hold()
	if err != nil {
		return fmt.Errorf("hold %s: %w", task.Hold, err)
	}
	defer hold.Close()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	log, err := openLog(task)
	if err != nil {
		return fmt.Errorf("open container log: %w", err)
	}
	defer log.close()
	streams, err := openStreams(task, log)
	if err != nil {
		return fmt.Errorf("open standard streams: %w", err)
	}
	listener, err := listen(streams)
	if err != nil {
		return err
	}
	pid, err := runContainer(task, streams)
	if err != nil {
		return err
	}
	memory := memoryCgroup(pid)
	fmt.Fprint(parent, started)
	parent.Close()
	lock.Close()

	status, err := waitFor(pid)
	if err != nil {
		return err
	}
	exit := Exit{Code: status.ExitStatus(), Finished: time.Now().UTC(), OOMKilled: memory.killed()}
	if status.Signaled() {
		exit.Signal = int(status.Signal())
		exit.Code = 128 + exit.Signal
	}
	streams.drain(drainTimeout)
	if err := WriteFile(task.ExitPath, exit); err != nil {
		return err
	}
	// Only now: a client whose connection ends finds the exit file.
	listener.Close()
	streams.detachAll()
	return nil
}

// hold takes the lock that tells others of the container: it runs, whoever else was killed. A nil file is
// none, and may be closed.
func (t Task) hold() (*os.File, error) {
	if t.Hold == "" {
		return nil, nil
	}
	f, err := os.Open(t.Hold)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// runContainer starts the container and returns the pid of its first process, which is now our child.
func runContainer(task Task, streams *streams) (int, error) {
	args := []string{
		"--root", task.RuncRoot, "--log", runcLog, "--log-format", "json",
		"run", "--detach", "--bundle", ".", "--pid-file", PidFile,
	}
	var console *consoleSocket
	if task.TTY {
		var err error
		if console, err = newConsoleSocket(); err != nil {
			return 0, fmt.Errorf("open console socket: %w", err)
		}
		defer console.close()
		args = append(args, "--console-socket", console.path)
	}
	cmd := exec.Command(task.Runc, append(args, task.ID)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = streams.childFiles()
	err := cmd.Run()
	streams.closeChildFiles()
	if err != nil {
		return 0, runcError(err)
	}
	if console != nil {
		terminal, err := console.receive()
		if err != nil {
			return 0, fmt.Errorf("receive terminal of container: %w", err)
		}
		streams.useTerminal(terminal)
	}
	streams.start()
	data, err := os.ReadFile(PidFile)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}

// runcError finds in runc's log why it did not start the container.
func runcError(err error) error {
	f, openErr := os.Open(runcLog)
	if openErr != nil {
		return fmt.Errorf("run runc: %w", err)
	}
	defer f.Close()
	message := ""
	for scan := bufio.NewScanner(f); scan.Scan(); {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(scan.Bytes(), &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			message = entry.Msg
		}
	}
	if message == "" {
		return fmt.Errorf("run runc: %w", err)
	}
	return errors.New(message)
}

// waitFor collects children until the container's first process is among them. Others appear only
// when the container shares a process namespace with the node: the kernel gives its orphans to us.
func waitFor(pid int) (syscall.WaitStatus, error) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for container: %w", err)
		}
		if got == pid {
			return status, nil
		}
	}
}

// memoryEvents is the file in which the kernel counts the processes it killed for memory.
type memoryEvents string

// memoryCgroup finds the control group of a process: line "0::/PATH" in /proc/PID/cgroup for
// version 2, "9:memory:/PATH" for version 1; a machine with both has its memory controller in one.
func memoryCgroup(pid int) memoryEvents {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	unified := ""
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch parts[1] {
		case "memory":
			return memoryEvents(filepath.Join("/sys/fs/cgroup/memory", parts[2], "memory.oom_control"))
		case "":
			unified = parts[2]
		}
	}
	return memoryEvents(filepath.Join("/sys/fs/cgroup", unified, "memory.events"))
}

func (m memoryEvents) killed() bool {
	data, err := os.ReadFile(string(m))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		if count, ok := strings.CutPrefix(strings.TrimSpace(line), "oom_kill "); ok {
			return count != "0"
		}
	}
	return false
}

// waitGroupTimeout waits for a group at most d.
func waitGroupTimeout(group *sync.WaitGroup, d time.Duration) {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(d):
	}
}
