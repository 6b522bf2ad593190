package lab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/podarium/podarium/lab/world"
)

// process is one line of /proc as the machine sees it.
type process struct {
	PID  int
	PPID int
	Args []string
}

// processes lists what runs on the machine. Zombies have no command line and
// are left out; a process that ends meanwhile is too.
func processes() ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var list []process
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil || len(cmdline) == 0 {
			continue
		}
		list = append(list, process{
			PID:  pid,
			PPID: parent(dir),
			Args: strings.Split(string(bytes.TrimRight(cmdline, "\x00")), "\x00"),
		})
	}
	return list, nil
}

// parent is the fourth field of stat(5); the second, in brackets, may hold spaces.
func parent(dir string) int {
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return ppid
}

// findWorld is the process id of a lab's world, 0 when it is not running.
func findWorld(name string) (int, error) {
	return findProcess(world.Argv0, name)
}

// NodePID is the process id, on the machine, of a node's PID 1; the name
// "world" stands for the world itself.
func NodePID(labName, node string) (int, error) {
	if node == "world" {
		pid, err := findWorld(labName)
		if err == nil && pid == 0 {
			err = fmt.Errorf("lab %s is not running: start it with `podarium up`", labName)
		}
		return pid, err
	}
	cfg, err := world.Load(labName)
	if err != nil {
		return 0, err
	}
	if _, ok := cfg.NodeNumber(node); !ok {
		return 0, fmt.Errorf("lab %s has no node %q: its nodes are %s to %s, and world", labName, node, world.NodeName(1), world.NodeName(cfg.Nodes))
	}
	pid, err := findProcess(world.NodeArgv0, labName, node)
	if err == nil && pid == 0 {
		err = fmt.Errorf("%s is not running: start it with `podarium node start %s`", node, node)
	}
	return pid, err
}

func findProcess(argv ...string) (int, error) {
	list, err := processes()
	if err != nil {
		return 0, err
	}
	return oldestOf(list, argv), nil
}

// oldestOf is the process with this command line, 0 when there is none. A child
// which has not called exec yet has its parent's command line, and may be in other
// namespaces already: of two, the parent is meant, whatever their numbers.
func oldestOf(list []process, argv []string) int {
	same := map[int]process{}
	for _, p := range list {
		if slices.Equal(p.Args, argv) {
			same[p.PID] = p
		}
	}
	for _, p := range same {
		if _, child := same[p.PPID]; !child {
			return p.PID
		}
	}
	return 0
}

// descendants are all processes below a pid, itself included.
func descendants(root int) ([]process, error) {
	list, err := processes()
	if err != nil {
		return nil, err
	}
	in := map[int]bool{root: true}
	for grew := true; grew; {
		grew = false
		for _, p := range list {
			if in[p.PPID] && !in[p.PID] {
				in[p.PID], grew = true, true
			}
		}
	}
	return slices.DeleteFunc(list, func(p process) bool { return !in[p.PID] }), nil
}

// pss is a process's proportional share of memory in bytes: a page which ten
// processes map counts a tenth for each (proc_pid_smaps(5)).
func pss(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Pss:" {
			kib, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0
			}
			return kib * 1024
		}
	}
	return 0
}

// inPodCgroup tells whether a process belongs to the pod with this UID: the
// kubelet's cgroups carry it in their path.
func inPodCgroup(pid int, uid string) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(data), uid)
}
