package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	runc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/kubelet/shim"
)

const (
	recordFile = "container.json"
	configFile = "config.json"
)

// Runtime starts and finds the containers below one directory.
type Runtime struct {
	dir      string // what survives a boot
	runDir   string // what ends with it, a tmpfs
	shimPath string
	runcPath string
	runc     *runc.Runc
	logs     LogLimits
}

// LogLimits bound what a container's log takes on disk.
type LogLimits struct {
	MaxSize  int64 // bytes, at which a file is put aside; 0 is never
	MaxFiles int   // how many files stay, with the one being written
}

// New opens the runtime whose state is in dir, and in runDir what the next boot has to find empty;
// shimPath is the program podarium-shim. It fails when runc is not in PATH.
func New(dir, runDir, shimPath string, logs LogLimits) (*Runtime, error) {
	runcPath, err := exec.LookPath("runc")
	if err != nil {
		return nil, fmt.Errorf("find runc: %w; install it with: apt-get install runc", err)
	}
	if _, err := os.Stat(shimPath); err != nil {
		return nil, fmt.Errorf("find container shim: %w", err)
	}
	for _, parent := range []string{dir, runDir} {
		if err := os.MkdirAll(filepath.Join(parent, "containers"), 0o711); err != nil {
			return nil, fmt.Errorf("make container directory: %w", err)
		}
	}
	if err := makeMountPoints(filepath.Join(dir, mountPointsDir)); err != nil {
		return nil, fmt.Errorf("make mount points of containers: %w", err)
	}
	return &Runtime{
		dir: dir, runDir: runDir, shimPath: shimPath, runcPath: runcPath, logs: logs,
		runc: &runc.Runc{Command: runcPath, Root: filepath.Join(runDir, "runc")},
	}, nil
}

// Version is runc's name and version as a node reports it: runc://1.1.5.
func (r *Runtime) Version(ctx context.Context) (string, error) {
	version, err := r.runc.Version(ctx)
	if err != nil {
		return "", fmt.Errorf("ask runc for its version: %w", err)
	}
	number, _, _ := strings.Cut(version.Runc, "+")
	return "runc://" + number, nil
}

// Record is what is written down of a container when it is created and when it starts.
type Record struct {
	ID           string    `json:"id"`
	PodUID       string    `json:"podUID"`
	PodNamespace string    `json:"podNamespace"`
	PodName      string    `json:"podName"`
	Name         string    `json:"name"`    // of the container in the pod
	Attempt      int       `json:"attempt"` // 0 for the first start, then 1, …: restartCount
	SandboxID    string    `json:"sandboxID"`
	Image        string    `json:"image"`   // as the pod names it
	ImageID      string    `json:"imageID"` // digest of what it was
	SpecHash     string    `json:"specHash"`
	LogPath      string    `json:"logPath"`
	TTY          bool      `json:"tty,omitempty"`
	MessagePath  string    `json:"messagePath,omitempty"` // host path of the termination message
	Created      time.Time `json:"created"`
	Started      time.Time `json:"started,omitzero"`
	// StartError is runc's complaint when the container could not be started.
	StartError string `json:"startError,omitempty"`
	// User is who the container's first process is; Create finds it out.
	User *Identity `json:"user,omitempty"`
}

// Identity is a user and his groups, the main one among them.
type Identity struct {
	UID    int64   `json:"uid"`
	GID    int64   `json:"gid"`
	Groups []int64 `json:"groups,omitempty"`
}

func (r *Runtime) containerDir(id string) string { return filepath.Join(r.dir, "containers", id) }
func (r *Runtime) bundleDir(id string) string    { return filepath.Join(r.runDir, "containers", id) }

// RootFS is the directory on which the container's root file system is mounted.
func (r *Runtime) RootFS(id string) string { return filepath.Join(r.bundleDir(id), rootfsDir) }

// FilePath is a file of that name in the container's directory, for things which live as long as it.
func (r *Runtime) FilePath(id, name string) string { return filepath.Join(r.containerDir(id), name) }

// Reserve makes the directory of a container which is about to be created, or removed again by Remove: whoever
// finds the containers by their directories finds what belongs to it elsewhere.
func (r *Runtime) Reserve(id string) error {
	if err := os.Mkdir(r.containerDir(id), 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("reserve container: %w", err)
	}
	return nil
}

// Create lays out a container: directories, root file system, OCI specification. The record comes
// last: without it there is no container.
func (r *Runtime) Create(record *Record, c Container) (err error) {
	dir, bundle := r.containerDir(record.ID), r.bundleDir(record.ID)
	defer func() {
		if err != nil {
			_ = unmount(r.RootFS(record.ID)) // err says more
			os.RemoveAll(bundle)
			os.RemoveAll(dir)
		}
	}()
	// The bundle second: whoever finds the containers by their directories finds all bundles.
	if err := errors.Join(r.Reserve(record.ID), os.Mkdir(bundle, 0o711)); err != nil {
		return fmt.Errorf("create container %s: %w", record.Name, err)
	}
	if len(c.Layers) == 0 {
		return fmt.Errorf("mount root file system of container %s: image has no layers", record.Name)
	}
	layers := append(r.mountPoints(c), c.Layers...)
	if err := mountOverlay(r.RootFS(record.ID), dir, layers); err != nil {
		return fmt.Errorf("mount root file system of container %s: %w", record.Name, err)
	}
	if len(c.Args) == 0 {
		return fmt.Errorf("create container %s: no command specified", record.Name)
	}
	user, err := resolveUser(r.RootFS(record.ID), c.User)
	if err != nil {
		return fmt.Errorf("create container %s: %w", record.Name, err)
	}
	record.User = user.identity()
	for _, file := range c.Files {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o666); err != nil {
			return fmt.Errorf("create container %s: %w", record.Name, err)
		}
		// The container's user writes its last words; the process's umask took the bits away.
		if err := os.Chmod(filepath.Join(dir, file), 0o666); err != nil {
			return fmt.Errorf("create container %s: %w", record.Name, err)
		}
	}
	spec, err := c.spec(user)
	if err != nil {
		return fmt.Errorf("create container %s: %w", record.Name, err)
	}
	task := shim.Task{
		ID: record.ID, Runc: r.runcPath, RuncRoot: r.runc.Root, LogPath: record.LogPath,
		ExitPath: r.FilePath(record.ID, shim.ExitFile),
		Stdin:    c.Stdin, StdinOnce: c.StdinOnce, TTY: c.TTY, UID: int(user.UID), GID: int(user.GID),
		Hold: c.Hold, LogMaxSize: r.logs.MaxSize, LogMaxFiles: r.logs.MaxFiles,
	}
	return errors.Join(
		shim.WriteFile(filepath.Join(bundle, configFile), spec),
		shim.WriteFile(filepath.Join(bundle, shim.TaskFile), task),
		shim.WriteFile(filepath.Join(dir, recordFile), record),
	)
}

// StartError is runc's refusal to start a container.
type StartError struct{ Message string }

func (e *StartError) Error() string { return "failed to create runc task: " + e.Message }

// Start runs a created container and writes down when. A *StartError tells why runc did not.
func (r *Runtime) Start(record *Record) error {
	lock, err := r.lockStart(record.ID)
	if err != nil {
		return fmt.Errorf("start container %s: %w", record.Name, err)
	}
	defer lock.Close()
	runErr := shim.Start(r.shimPath, r.bundleDir(record.ID), lock)
	record.Started = time.Now().UTC()
	if runErr != nil {
		record.StartError = runErr.Error()
	}
	if err := shim.WriteFile(filepath.Join(r.containerDir(record.ID), recordFile), record); err != nil {
		return fmt.Errorf("write record of container %s: %w", record.Name, err)
	}
	if runErr != nil {
		return &StartError{record.StartError}
	}
	return nil
}

// lockStart takes the lock which is held while a container is being started.
func (r *Runtime) lockStart(id string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(r.bundleDir(id), shim.StartLock), os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// Settle waits until a start which an earlier process began has come to its end. What runc is making at
// this moment could be neither found nor removed.
func (r *Runtime) Settle(record Record) error {
	if !record.Started.IsZero() {
		return nil
	}
	lock, err := r.lockStart(record.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was before the last boot
	}
	if err != nil {
		return fmt.Errorf("wait for the start of container %s: %w", record.Name, err)
	}
	return lock.Close()
}

// Records finds all containers of the directory, also those which another process started. half are those
// whose maker or remover was killed: they have a directory and no record, and can only be removed.
func (r *Runtime) Records() (records []Record, half []string, err error) {
	ids, err := r.IDs()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range ids {
		var record Record
		err := shim.ReadFile(filepath.Join(r.containerDir(id), recordFile), &record)
		if err != nil || record.ID != id {
			half = append(half, id)
			continue
		}
		records = append(records, record)
	}
	return records, half, nil
}

// IDs are those of all containers of the directory, also of those which are being made or removed.
func (r *Runtime) IDs() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(r.dir, "containers"))
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	ids := make([]string, len(entries))
	for i, entry := range entries {
		ids[i] = entry.Name()
	}
	return ids, nil
}

// Exited returns how a container ended; ok is false while it runs and when its shim died first.
func (r *Runtime) Exited(id string) (exit shim.Exit, ok bool) {
	err := shim.ReadFile(filepath.Join(r.containerDir(id), shim.ExitFile), &exit)
	return exit, err == nil
}

// Wait returns when the container has ended. ok is false when the shim is gone and left no exit
// status: it was killed, or the node went down. What remains of the container is killed then.
func (r *Runtime) Wait(ctx context.Context, id string) (exit shim.Exit, ok bool) {
	if conn, err := r.dial(id); err == nil {
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		_, _ = conn.Write([]byte{shim.HelloWait})
		var one [1]byte
		_, _ = conn.Read(one[:]) // nothing ever comes but the end
		stop()
		conn.Close()
	}
	return r.Exited(id)
}

// Alive tells whether the container's shim lives.
func (r *Runtime) Alive(id string) bool {
	conn, err := r.dial(id)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// dial connects to the shim. The path goes through an open directory, because a socket's path has at
// most 107 bytes.
func (r *Runtime) dial(id string) (net.Conn, error) {
	dir, err := os.Open(r.bundleDir(id))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(dir.Fd()))+"/"+shim.SocketFile)
}

// Signal sends a signal to the container's first process. A container which has ended is no error.
func (r *Runtime) Signal(ctx context.Context, id string, signal syscall.Signal) error {
	err := r.runc.Kill(ctx, id, int(signal), nil)
	if err == nil {
		return nil
	}
	if _, ended := r.Exited(id); ended {
		return nil
	}
	text := err.Error()
	if strings.Contains(text, "not running") || strings.Contains(text, "does not exist") || strings.Contains(text, "process already finished") {
		return nil
	}
	return fmt.Errorf("send signal %d to container %s: %w", signal, id, err)
}

// Release ends what is left of a container, frees its control group, its mount and its bundle. Its
// directory stays, with its record and exit status.
func (r *Runtime) Release(ctx context.Context, id string) error {
	if _, err := os.Stat(filepath.Join(r.runc.Root, id)); err == nil {
		if err := r.runc.Delete(ctx, id, &runc.DeleteOpts{Force: true}); err != nil {
			return fmt.Errorf("delete container %s: %w", id, err)
		}
	}
	if err := unmount(r.RootFS(id)); err != nil {
		return fmt.Errorf("unmount container %s: %w", id, err)
	}
	dir := r.containerDir(id)
	for _, path := range []string{r.bundleDir(id), filepath.Join(dir, upperDir), filepath.Join(dir, workDir)} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("release container %s: %w", id, err)
		}
	}
	return nil
}

// WritableDir is where the files are that a container which runs has written, in front of its image's.
func (r *Runtime) WritableDir(id string) string { return filepath.Join(r.containerDir(id), upperDir) }

// Remove releases a container and forgets it. It may be called again after it failed half-way.
func (r *Runtime) Remove(ctx context.Context, id string) error {
	if err := r.Release(ctx, id); err != nil {
		return err
	}
	if err := os.RemoveAll(r.containerDir(id)); err != nil {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// Orphans lists containers which runc knows and which have no directory any more.
func (r *Runtime) Orphans() ([]string, error) {
	entries, err := os.ReadDir(r.runc.Root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list containers of runc: %w", err)
	}
	var orphans []string
	for _, entry := range entries {
		if _, err := os.Stat(r.containerDir(entry.Name())); errors.Is(err, fs.ErrNotExist) {
			orphans = append(orphans, entry.Name())
		}
	}
	return orphans, nil
}

func readJSON(r io.Reader, value any) error { return json.NewDecoder(r).Decode(value) }
