package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Argv0 and NodeArgv0 are the names of the two kinds of PID 1, EgressArgv0 that of the
// process which dials registries.
const (
	Argv0       = "podarium-world"
	NodeArgv0   = "node-init"
	EgressArgv0 = "podarium-egress"
)

// File descriptors `up` hands to the world (syscall.ForkExec numbers them by
// position).
const (
	worldAPISocket = 3 + iota // listener on the machine's 127.0.0.1
	worldHostNet              // the machine's network namespace, for image pulls
	worldLock                 // the lab's lock: held as long as the world lives
	worldReady                // pipe: "" and closed = ready, else the error
)

// NodeGrace is how long a node's components may take to stop.
const NodeGrace = 3 * time.Second

// Run is the main function of the world's PID 1. It makes the switch, starts
// the nodes, and then only waits: for requests of `podarium node …`, for
// processes that end, and for its own end, which ends all others.
func Run(name string) error {
	ready := os.NewFile(worldReady, "ready")
	for _, fd := range []int{worldAPISocket, worldHostNet, worldLock, worldReady} {
		unix.CloseOnExec(fd)
	}
	w, err := newWorld(name)
	if err != nil {
		fmt.Fprint(ready, err)
		return err
	}
	var failed error
	for n := 1; n <= w.cfg.Nodes; n++ {
		failed = errors.Join(failed, w.startNode(n))
	}
	if failed != nil {
		fmt.Fprint(ready, failed)
		return failed
	}
	ready.Close()
	slog.Info("world is up", "lab", name, "nodes", w.cfg.Nodes)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	go func() { <-ctx.Done(); w.control.Close() }()
	w.serve()
	w.stopAll()
	return nil
}

// world is what PID 1 knows; nodes is guarded by mu.
type world struct {
	cfg     Config
	reaper  *reaper
	control net.Listener

	mu    sync.Mutex
	nodes map[int]*runningNode
}

type runningNode struct {
	pid  int // as the world counts
	gone chan struct{}
}

func newWorld(name string) (*world, error) {
	cfg, err := Load(name)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(privateMounts(), mountProc(), unix.Sethostname([]byte("world"))); err != nil {
		return nil, err
	}
	w := &world{cfg: cfg, reaper: newReaper(), nodes: map[int]*runningNode{}}
	if err := w.startEgress(); err != nil {
		return nil, err
	}
	if err := makeSwitch(cfg); err != nil {
		return nil, err
	}
	socket := controlSocket(name)
	if err := os.RemoveAll(socket); err != nil {
		return nil, fmt.Errorf("clear control socket: %w", err)
	}
	if w.control, err = net.Listen("unix", socket); err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, fmt.Errorf("protect control socket: %w", err)
	}
	return w, nil
}

func controlSocket(name string) string { return filepath.Join(Dir(name), "world.sock") }

// startEgress starts the one process of the lab that lives in the machine's
// network namespace. A child gets the namespace of the thread that forks it,
// so a thread goes there, forks, and is thrown away.
func (w *world) startEgress() error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Setns(worldHostNet, unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter the machine's network namespace: %w", err)
			return
		}
		_, _, err := w.reaper.start(w.self(EgressArgv0, filepath.Join(w.cfg.Path("egress"), filepath.Base(egressSocket)), w.cfg.Egress))
		result <- err
	}()
	return <-result
}

// self is this binary under another name, with our own output.
func (w *world) self(argv ...string) spawn {
	return spawn{path: "/proc/self/exe", argv: argv, env: os.Environ(), files: []uintptr{0, 1, 2}, attr: &syscall.SysProcAttr{}}
}

// startNode makes a node's namespaces with its PID 1 inside, plugs it into the
// switch and lets it go on.
func (w *world) startNode(number int) error {
	name := NodeName(number)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nodes[number] != nil {
		return fmt.Errorf("start %s: it is running already", name)
	}
	goRead, goWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	defer goWrite.Close()
	node := w.self(NodeArgv0, w.cfg.Name, name)
	node.files = append(node.files, goRead.Fd(), worldAPISocket)
	node.attr.Cloneflags = unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWPID
	pid, ended, err := w.reaper.start(node)
	goRead.Close()
	if err != nil {
		return err
	}
	running := &runningNode{pid: pid, gone: make(chan struct{})}
	w.nodes[number] = running
	go w.forget(number, running, ended)
	if err := plugIn(name, pid); err != nil {
		_ = syscall.Kill(pid, syscall.SIGKILL)
		return fmt.Errorf("start %s: %w", name, err)
	}
	if _, err := goWrite.Write([]byte{1}); err != nil {
		return fmt.Errorf("start %s: it ended at once, see %s", name, w.cfg.Path("world.log"))
	}
	slog.Info("node started", "node", name, "address", w.cfg.NodeIP(number), "pid", pid)
	return nil
}

func (w *world) forget(number int, running *runningNode, ended <-chan syscall.WaitStatus) {
	status := <-ended
	w.mu.Lock()
	delete(w.nodes, number)
	w.mu.Unlock()
	close(running.gone)
	slog.Info("node ended", "node", NodeName(number), "status", describe(status))
}

// stopNode asks PID 1 of a node to stop its components, and pulls the plug
// when that takes too long.
func (w *world) stopNode(number int) error {
	w.mu.Lock()
	running := w.nodes[number]
	w.mu.Unlock()
	if running == nil {
		return fmt.Errorf("stop %s: it is not running", NodeName(number))
	}
	_ = syscall.Kill(running.pid, syscall.SIGTERM) // it may have ended just now
	select {
	case <-running.gone:
	case <-time.After(NodeGrace + time.Second):
		_ = syscall.Kill(running.pid, syscall.SIGKILL)
		<-running.gone
	}
	return nil
}

func (w *world) stopAll() {
	var all sync.WaitGroup
	for n := 1; n <= w.cfg.Nodes; n++ {
		all.Go(func() { _ = w.stopNode(n) }) // not running is what is wanted
	}
	all.Wait()
}

// Request and response are the lines of the control socket, in JSON.
type Request struct {
	Op   string `json:"op"` // "start", "stop" or "list"
	Node int    `json:"node,omitempty"`
}

type response struct {
	Error string      `json:"error,omitempty"`
	PIDs  map[int]int `json:"pids,omitempty"` // running nodes, pids as the world counts
}

func (w *world) serve() {
	for {
		conn, err := w.control.Accept()
		if err != nil {
			return // closed: the world is to end
		}
		go w.answer(conn)
	}
}

func (w *world) answer(conn net.Conn) {
	defer conn.Close()
	var req Request
	var res response
	err := json.NewDecoder(io.LimitReader(conn, 4096)).Decode(&req)
	if err == nil {
		switch req.Op {
		case "start":
			err = w.startNode(req.Node)
		case "stop":
			err = w.stopNode(req.Node)
		case "list":
		default:
			err = fmt.Errorf("unknown request %q", req.Op)
		}
	}
	if err != nil {
		res.Error = err.Error()
	}
	w.mu.Lock()
	res.PIDs = map[int]int{}
	for n, node := range w.nodes {
		res.PIDs[n] = node.pid
	}
	w.mu.Unlock()
	if err := json.NewEncoder(conn).Encode(res); err != nil {
		slog.Debug("control client went away", "err", err)
	}
}

// Ask sends one request to a running world.
func Ask(name string, req Request) error {
	var res response
	conn, err := net.Dial("unix", controlSocket(name))
	if err != nil {
		return fmt.Errorf("lab %s is not running: start it with `podarium up`", name)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return fmt.Errorf("ask world of %s: %w", name, err)
	}
	if err := json.NewDecoder(conn).Decode(&res); err != nil {
		return fmt.Errorf("ask world of %s: %w", name, err)
	}
	if res.Error != "" {
		return errors.New(res.Error)
	}
	return nil
}
