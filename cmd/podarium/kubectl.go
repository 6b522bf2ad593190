package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	componentcli "k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"

	"github.com/podarium/podarium/lab/world"
)

// kubectlCommand is kubectl itself. Without KUBECONFIG it talks to the lab,
// whatever the user's current context is; --kubeconfig and --context still win.
func kubectlCommand(_ context.Context, args []string) error {
	if os.Getenv("KUBECONFIG") == "" {
		if admin := (world.Config{Name: labName()}).AdminKubeconfig(); readable(admin) {
			if err := os.Setenv("KUBECONFIG", admin); err != nil {
				return err
			}
		}
	}
	signal.Reset(os.Interrupt, syscall.SIGTERM) // ^C ends kubectl at once, as users expect
	os.Args = append([]string{"kubectl"}, args...)
	command := cmd.NewDefaultKubectlCommand()
	command.SetArgs(args)
	if err := componentcli.RunNoErrOutput(command); err != nil { // adds -v and its kin
		util.CheckErr(err) // prints in kubectl's words, and exits with its code
	}
	return nil
}

func readable(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	file.Close()
	return true
}
