package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/podarium/podarium/internal/kube"
)

// logFlags are those by which every component says what it writes where.
type logFlags struct {
	verbosity int
	file      string
}

func (f *logFlags) define(flags *flag.FlagSet) {
	flags.IntVar(&f.verbosity, "v", 2, "log `level`: 2 tells what changes, 4 and more why")
	flags.StringVar(&f.file, "log-file", "", "`file` to which the log goes too, beside standard error")
}

// setup names the log lines after the process, e.g. component=kube-proxy. The
// file is opened for appending, so that it may be emptied meanwhile.
func (f *logFlags) setup() error {
	out := io.Writer(os.Stderr)
	if f.file != "" {
		file, err := os.OpenFile(f.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("open --log-file: %w", err)
		}
		out = io.MultiWriter(os.Stderr, file)
	}
	kube.SetupLogging(out, filepath.Base(os.Args[0]), f.verbosity)
	return nil
}
