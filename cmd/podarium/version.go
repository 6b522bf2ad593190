package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/podarium/podarium/internal/cli"
	"github.com/podarium/podarium/internal/kube"
)

func versionCommand(_ context.Context, args []string) error {
	flags := cli.NewFlagSet("version", "podarium version prints the Kubernetes version which is served.\n")
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	fmt.Printf("podarium %s %s %s/%s\n", kube.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

const completionHelp = `podarium completion prints a script that completes podarium's commands in bash:

  source <(podarium completion)
`

func completionCommand(_ context.Context, args []string) error {
	flags := cli.NewFlagSet("completion", completionHelp)
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	fmt.Print("complete -W \"")
	for i, c := range commands() {
		if i > 0 {
			fmt.Print(" ")
		}
		fmt.Print(c.name)
	}
	fmt.Println("\" podarium")
	return nil
}
