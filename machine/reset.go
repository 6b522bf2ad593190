package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/internal/cgroup"
	"github.com/podarium/podarium/internal/mounts"
	"github.com/podarium/podarium/machine/components"
)

// ownPaths are files and folders, as patterns, which nobody else writes to.
var ownPaths = []string{
	components.Etc, "/var/lib/kubelet", "/var/lib/etcd", "/var/lib/cni/podarium", "/var/lib/cni/results/podarium-*", imagesDir, "/var/log/pods", "/var/log/containers", programsDir,
	"/etc/cni/net.d/10-podarium.conflist", cniDir + "/podarium", cniDir + "/portmap",
	modulesFile, sysctlFile, logrotateFile,
	"/var/log/kube-apiserver.log", "/var/log/kube-controller-manager.log", "/var/log/kube-scheduler.log", "/var/log/kubelet.log", "/var/log/kube-proxy.log",
}

// Reset makes this machine what it was before init or join. cleanNetwork removes
// what the components put into the kernel: rules, routes, links; it knows more
// about that than this package does. Reset can be repeated, and works on what
// an interrupted init has left.
func (m *Machine) Reset(ctx context.Context, cleanNetwork func(context.Context) error) error {
	if !needsRoot.OK() {
		return errors.New(needsRoot.Remedy)
	}
	old, err := loadState()
	if err != nil {
		m.say("reset", "WARNING %v", err) // what it was before is not known, the rest can go
	}
	removed, err := removeUnits(append([]string{renewalTimer, renewalService}, componentUnits...))
	if err != nil {
		return fmt.Errorf("stop services: %w", err)
	}
	if len(removed) == 0 && !exists(stateFile) {
		m.say("reset", "this machine is no node")
		return nil
	}
	m.say("services", "stopped: %s", unitWords(removed))
	if err := endContainers(); err != nil {
		return err
	}
	m.say("containers", "ended, with their namespaces, mounts and control groups")
	if err := cleanNetwork(ctx); err != nil {
		return fmt.Errorf("clean the network: %w", err)
	}
	m.say("network", "removed: rules, routes and links of Services and pods")
	var was before
	if old != nil {
		was = old.Before
	}
	errs := []error{was.restoreKernel(), removeFiles(was)}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.say("files", "removed: %s, /var/lib/{kubelet,etcd,podarium}, %s, logs", components.Etc, programsDir)
	if old != nil && !old.ControlPlane {
		m.say("reset", "the cluster still has the node: kubectl delete node %s", old.Node.Name)
	}
	return nil
}

// endContainers kills every process of a pod; their shims see that and end.
func endContainers() error {
	const group = "kubepods"
	if err := cgroup.Kill(group); err != nil {
		return err
	}
	if err := endShims(); err != nil {
		return err
	}
	return errors.Join(mounts.DetachBelow("/var/lib/kubelet"), cgroup.Remove(group))
}

// shimGrace is how long shims may take to note that their containers ended.
const shimGrace = 5 * time.Second

func endShims() error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(shimGrace); ; <-tick.C {
		shims, err := processesOf(filepath.Join(programsDir, "podarium-shim"))
		if err != nil || len(shims) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			for _, pid := range shims {
				_ = unix.Kill(pid, unix.SIGKILL) // may have ended just now
			}
		}
	}
}

// processesOf finds the processes that run a program.
func processesOf(program string) ([]int, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || strings.TrimSuffix(target, " (deleted)") != program {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(link, "/proc/%d/exe", &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// restoreKernel gives settings their old values, and takes tables and modules
// away which nobody had before and nobody uses now.
func (b before) restoreKernel() error {
	var errs []error
	for name, value := range b.Sysctls {
		if now := sysctl(name); now != "" && now != value {
			errs = append(errs, setSysctl(name, value))
		}
	}
	if b.Sysctls != nil {
		for _, table := range nftTables() {
			if !slices.Contains(b.Tables, table) && emptyTable(table) {
				_ = exec.Command("nft", append([]string{"delete", "table"}, strings.Fields(table)...)...).Run() // an empty table does no harm
			}
		}
		b.unloadModules()
	}
	return errors.Join(errs...)
}

// unloadModules takes those away which were not here before.
func (b before) unloadModules() {
	for _, module := range slices.Backward(anyModules) {
		if !slices.Contains(b.Modules, module) {
			_ = exec.Command("modprobe", "-r", module).Run() // somebody else may use it by now
		}
	}
}

// emptyTable: iptables-nft leaves a table with its base chains behind when the
// last rule goes.
func emptyTable(table string) bool {
	out, err := exec.Command("nft", append([]string{"list", "table"}, strings.Fields(table)...)...).Output()
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "table" || words[0] == "chain" || words[0] == "}" || words[0] == "#" {
			continue
		}
		if words[0] != "type" || !strings.Contains(line, "policy accept") {
			return false // a rule, a set, or a policy somebody chose
		}
	}
	return true
}

// removeFiles removes ours, and then folders which were not here before and have
// become empty; what was before is forgotten last.
func removeFiles(was before) error {
	var errs []error
	for _, pattern := range ownPaths {
		found, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, path := range found {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	for _, name := range []string{"podarium", "kubectl"} {
		link := filepath.Join("/usr/local/bin", name)
		if target, err := os.Readlink(link); err == nil && target == filepath.Join(programsDir, "podarium") {
			errs = append(errs, os.Remove(link))
		}
	}
	for _, name := range []string{"/var/lib/cni/results", "/var/lib/cni"} {
		errs = append(errs, removeEmptyDir(name))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove files: %w", err)
	}
	if err := os.Remove(stateFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove files: %w", err)
	}
	for _, dir := range sharedFolders {
		if !slices.Contains(was.Folders, dir) {
			errs = append(errs, removeEmptyDir(dir))
		}
	}
	return errors.Join(errs...)
}

func removeEmptyDir(dir string) error {
	err := os.Remove(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTEMPTY) {
		return nil
	}
	return fmt.Errorf("remove folder: %w", err)
}
