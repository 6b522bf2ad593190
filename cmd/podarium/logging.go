package main

import (
	"os"
	"path/filepath"

	"github.com/podarium/podarium/internal/kube"
)

// setupLogging names the log lines after the process, e.g. component=kube-proxy.
func setupLogging(verbosity int) {
	kube.SetupLogging(filepath.Base(os.Args[0]), verbosity)
}
