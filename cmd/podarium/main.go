// Command podarium is the whole cluster in one command: the lab that starts
// and stops it, and every component the lab (or a machine's init system) runs,
// of which some are binaries of their own beside this one (become.go).
//
// A component runs as a process with the name the field knows: started as
// "kube-apiserver" (argv[0]), the binary is the API server, so that
// `ps aux | grep kube-apiserver` on a node finds it with its flags.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/podarium/podarium/internal/cli"
)

// command is one word of the command line.
type command struct {
	name string // podarium NAME
	argv string // or argv[0] alone, for a component
	help string
	run  func(ctx context.Context, args []string) error
}

// commands is what `podarium` prints without arguments, in this order.
func commands() []command {
	return []command{
		{name: "up", help: "start a lab", run: upCommand},
		{name: "down", help: "end a lab; nothing is left", run: downCommand},
		{name: "demo", help: "tell the way of a request on the running lab", run: demoCommand},
		{name: "status", help: "what a lab consists of now", run: statusCommand},
		{name: "node", help: "list, exec, stop, start, logs", run: nodeCommand},
		{name: "image", help: "list, load, pull: the images of a store", run: imageCommand},
		{name: "init", help: "make this machine a cluster's control plane", run: initCommand},
		{name: "join", help: "make this machine a node of a cluster", run: joinCommand},
		{name: "token", help: "create, list, delete: what machines join with", run: tokenCommand},
		{name: "certs", help: "check-expiration, renew: the certificates of this machine", run: certsCommand},
		{name: "reset", help: "make this machine what it was before init or join", run: resetCommand},
		{name: "kubectl", argv: "kubectl", help: "the Kubernetes command line", run: kubectlCommand},

		{name: "apiserver", argv: "kube-apiserver", help: "component: the API server, with etcd inside", run: apiserverCommand},
		{name: "controller-manager", argv: "kube-controller-manager", help: "component: the controllers", run: controllerManagerCommand},
		{name: "scheduler", argv: "kube-scheduler", help: "component: gives pods their nodes", run: schedulerCommand},
		{name: "kubelet", argv: "kubelet", help: "component: the node agent, which runs the pods", run: become("podarium-node", "kubelet")},
		{name: "proxy", argv: "kube-proxy", help: "component: Services on a node", run: become("podarium-proxy", "kube-proxy")},
		{name: "dns", argv: "kube-dns", help: "component: cluster DNS", run: become("podarium-dns", "kube-dns")},
		{name: "version", help: "which Kubernetes this is", run: versionCommand},
		{name: "completion", help: "complete these commands in bash", run: completionCommand},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args)
	stop()
	os.Exit(code)
}

// run finds the command in args and runs it. Exit codes: 0, 1 for an error,
// 2 for a wrong command line, or what the command says itself (see cli.ExitCode).
func run(ctx context.Context, args []string) int {
	cmd, rest := find(args)
	if cmd == nil {
		usage()
		if len(args) > 1 && isHelp(args[1]) {
			return 0
		}
		if len(args) > 1 {
			fmt.Fprintf(os.Stderr, "\npodarium: unknown command %q\n", args[1])
		}
		return 2
	}
	return cli.ExitCode("podarium "+cmd.name, cmd.run(ctx, rest))
}

// find looks at argv[0] first: a component's process carries only that name.
func find(args []string) (*command, []string) {
	if len(args) == 0 {
		return nil, nil
	}
	all := commands()
	for i := range all {
		if all[i].argv != "" && all[i].argv == filepath.Base(args[0]) {
			return &all[i], args[1:]
		}
	}
	if len(args) < 2 {
		return nil, nil
	}
	for i := range all {
		if all[i].name == args[1] {
			return &all[i], args[2:]
		}
	}
	return nil, nil
}

func isHelp(arg string) bool {
	return arg == "help" || arg == "-h" || arg == "-help" || arg == "--help"
}

func usage() {
	fmt.Println("Podarium: Kubernetes networking behind glass.")
	fmt.Println("\nUsage: podarium COMMAND [flags]")
	fmt.Println()
	for _, c := range commands() {
		if c.help != "" {
			fmt.Printf("  %-20s %s\n", c.name, c.help)
		}
	}
	fmt.Println("\npodarium COMMAND --help tells the flags.")
}
