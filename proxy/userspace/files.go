package userspace

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// openFiles is how many the proxy wants to have open, as kube-proxy did: one is
// for each portal, two for each connection.
const openFiles = 64 * 1000

// mostPortals is how many portals there may be: a quarter of the files is for
// connections, and for the programs that write rules.
func mostPortals() int { return int(allowedFiles() / 4 * 3) }

// allowedFiles is how many may be open. Go has gone up to the hard limit by
// itself, and beyond that only CAP_SYS_RESOURCE leads.
func allowedFiles() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		slog.Info("number of files not known", "err", err)
		return 1024 // of old
	}
	if limit.Max >= openFiles {
		return limit.Cur
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: openFiles, Max: openFiles}); err != nil {
		slog.Info("fewer files may be open than wanted", "limit", limit.Cur, "wanted", openFiles, "err", err)
		return limit.Cur
	}
	return openFiles
}
