package world

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/internal/atomicfile"
)

// File descriptors the world hands to a node's PID 1.
const (
	nodeGo        = 3 + iota // pipe: one byte when eth0 is there
	nodeAPISocket            // listener on the machine's 127.0.0.1, for kube-apiserver
)

// sysctls are what every guide to Kubernetes sets on a machine first. Without
// bridge-nf-call-iptables the answer of a pod to a pod on the same bridge
// passes the bridge without conntrack seeing it, so a Service between them
// times out.
var sysctls = [][2]string{
	{"net/ipv4/ip_forward", "1"},
	{"net/bridge/bridge-nf-call-iptables", "1"},
}

// RunNode is the main function of a node's PID 1: it makes the machine, then
// keeps its components running and buries orphans, as an init system does.
func RunNode(labName, nodeName string) error {
	unix.CloseOnExec(nodeGo)
	unix.CloseOnExec(nodeAPISocket)
	cfg, err := Load(labName)
	if err != nil {
		return err
	}
	number, ok := cfg.NodeNumber(nodeName)
	if !ok {
		return fmt.Errorf("lab %s has no node %s", labName, nodeName)
	}
	if _, err := os.NewFile(nodeGo, "go").Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the switch: %w", err)
	}
	if err := makeMachine(cfg, number); err != nil {
		return fmt.Errorf("make %s: %w", nodeName, err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	runComponents(ctx, cfg, number)
	return nil
}

func makeMachine(cfg Config, number int) error {
	if err := privateMounts(); err != nil {
		return err
	}
	if err := mountNodeFiles(cfg, number); err != nil {
		return err
	}
	if err := errors.Join(mountProc(), unix.Sethostname([]byte(NodeName(number)))); err != nil {
		return err
	}
	if err := setUpNodeNetwork(cfg, number); err != nil {
		return err
	}
	for _, s := range sysctls {
		if err := setSysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	return nil
}

// runComponents starts everything at once: each waits for what it needs.
func runComponents(ctx context.Context, cfg Config, number int) {
	r := newReaper()
	var all sync.WaitGroup
	for _, process := range Components(cfg, number) {
		all.Go(func() {
			s, err := processSpawn(process)
			if err != nil {
				slog.Error("component not started", "component", process.Name, "err", err)
				return
			}
			r.keep(ctx, NodeGrace, s)
		})
	}
	all.Wait()
}

// processSpawn is a component as a process: its field name as argv[0], its log
// under /var/log, the machine's listener when it is to serve it.
func processSpawn(p Process) (spawn, error) {
	log, err := os.OpenFile(filepath.Join("/var/log", p.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return spawn{}, fmt.Errorf("open log: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return spawn{}, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	s := spawn{
		path:  filepath.Join(nodePrograms, p.Program()),
		argv:  append([]string{p.Name}, p.Args...),
		env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "GOGC=50"},
		files: []uintptr{null.Fd(), log.Fd(), log.Fd()},
		attr:  &syscall.SysProcAttr{Setsid: true},
	}
	if p.Name == "kubelet" {
		s.more = func() []string { return moreKubeletFlags(kubeletFlagsFile) }
	}
	if p.APISocket {
		s.files = append(s.files, nodeAPISocket)
		s.env = append(s.env, "LISTEN_FDS=1")
	}
	return s, nil
}

// kubeletFlagsFile has flags which somebody adds on one node, as kubeadm's kubelets read it at each start:
//
//	KUBELET_KUBEADM_ARGS="--eviction-hard=nodefs.available<20% --max-pods=5"
const kubeletFlagsFile = "/var/lib/kubelet/kubeadm-flags.env"

func moreKubeletFlags(file string) []string {
	data, err := os.ReadFile(file)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			slog.Error("kubelet's flags not read", "err", err)
		}
		return nil
	}
	for line := range strings.Lines(string(data)) {
		if flags, ok := strings.CutPrefix(strings.TrimSpace(line), "KUBELET_KUBEADM_ARGS="); ok {
			return strings.Fields(strings.Trim(flags, `"`))
		}
	}
	return nil
}

// WriteNodeFiles prepares what a node finds in its /etc. It is done from
// outside, before the node starts, and again at every `up`.
func WriteNodeFiles(cfg Config, number int) error {
	var hosts strings.Builder
	hosts.WriteString("127.0.0.1\tlocalhost\n")
	for n := 1; n <= cfg.Nodes; n++ {
		fmt.Fprintf(&hosts, "%s\t%s\n", cfg.NodeIP(n), NodeName(n))
	}
	const resolv = "# A lab node has no resolver of its own: nothing outside can be reached.\n"
	return errors.Join(
		atomicfile.Write(cfg.NodePath(number, "etc", "hostname"), []byte(NodeName(number)+"\n"), 0o644),
		atomicfile.Write(cfg.NodePath(number, "etc", "hosts"), []byte(hosts.String()), 0o644),
		atomicfile.Write(cfg.NodePath(number, "etc", "resolv.conf"), []byte(resolv), 0o644),
	)
}
