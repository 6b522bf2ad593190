package cli

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/podarium/podarium/internal/kube"
)

// LogFlags are those by which every component says what it writes where.
type LogFlags struct {
	Verbosity int
	file      string
}

// Define adds the flags.
func (f *LogFlags) Define(flags *flag.FlagSet) {
	flags.IntVar(&f.Verbosity, "v", 2, "log `level`: 2 tells what changes, 4 and more why")
	flags.StringVar(&f.file, "log-file", "", "`file` to which the log goes too, beside standard error")
}

// Setup names the log lines after the process, e.g. component=kube-proxy. The
// file is opened for appending, so that it may be emptied meanwhile.
func (f *LogFlags) Setup() error {
	out := io.Writer(os.Stderr)
	if f.file != "" {
		file, err := os.OpenFile(f.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return fmt.Errorf("open --log-file: %w", err)
		}
		out = io.MultiWriter(os.Stderr, file)
	}
	kube.SetupLogging(out, filepath.Base(os.Args[0]), f.Verbosity)
	return nil
}
