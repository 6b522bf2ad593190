package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/podarium/podarium/lab/world"
)

// NsenterArgs is the command line that runs something on a node: nsenter(1)
// into the namespaces of its PID 1.
func NsenterArgs(pid int, command []string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(pid), "--mount", "--uts", "--net", "--pid", "--"}, command...)
}

// Exec replaces this process by a command on a node, so that terminals,
// signals and the exit code are the command's own.
func Exec(labName, node string, command []string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root: run it with sudo")
	}
	if len(command) == 0 {
		command = []string{"/bin/sh"}
	}
	pid, err := NodePID(labName, node)
	if err != nil {
		return err
	}
	path, err := exec.LookPath("nsenter")
	if err != nil {
		return errors.New("nsenter is missing: apt-get install util-linux")
	}
	if err := syscall.Exec(path, NsenterArgs(pid, command), os.Environ()); err != nil {
		return fmt.Errorf("exec on %s: %w", node, err)
	}
	return nil
}

// Command is Exec for those who want the output.
func Command(labName, node string, command ...string) (*exec.Cmd, error) {
	pid, err := NodePID(labName, node)
	if err != nil {
		return nil, err
	}
	args := NsenterArgs(pid, command)
	return exec.Command(args[0], args[1:]...), nil
}

// StartNode powers a node on, StopNode powers it off in good order.
func StartNode(labName, node string) error { return power(labName, node, "start") }

// StopNode stops a node's components and then the node.
func StopNode(labName, node string) error { return power(labName, node, "stop") }

func power(labName, node, op string) error {
	cfg, err := world.Load(labName)
	if err != nil {
		return err
	}
	number, ok := cfg.NodeNumber(node)
	if !ok {
		return fmt.Errorf("lab %s has no node %q: its nodes are %s to %s", labName, node, world.NodeName(1), world.NodeName(cfg.Nodes))
	}
	return world.Ask(labName, world.Request{Op: op, Node: number})
}

// LogPath is where a component of a node writes, seen from the machine.
func LogPath(labName, node, component string) (string, error) {
	cfg, err := world.Load(labName)
	if err != nil {
		return "", err
	}
	number, ok := cfg.NodeNumber(node)
	if !ok {
		return "", fmt.Errorf("lab %s has no node %q: its nodes are %s to %s", labName, node, world.NodeName(1), world.NodeName(cfg.Nodes))
	}
	path := cfg.NodePath(number, "var", "log", component+".log")
	if exists(path) {
		return path, nil
	}
	var names []string
	for _, p := range world.Components(cfg, number) {
		names = append(names, p.Name)
	}
	return "", fmt.Errorf("%s has no log of %q: its components are %v", node, component, names)
}
