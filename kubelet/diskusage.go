package kubelet

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"syscall"

	"github.com/podarium/podarium/kubelet/eviction"
)

// diskUsage adds up what is below a directory and on the same file system: a file with several names counts once,
// one with holes as much as it takes. What is not there, or is removed meanwhile, takes nothing.
func diskUsage(dir string) eviction.Disk {
	var usage eviction.Disk
	var device uint64
	counted := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // removed since its directory was read
		}
		info, err := entry.Info()
		if err != nil {
			return nil //nolint:nilerr // the same
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case !ok:
			return nil
		case path == dir:
			device = stat.Dev
		case stat.Dev != device && entry.IsDir():
			return fs.SkipDir
		case stat.Dev != device || counted[stat.Ino]:
			return nil
		}
		if stat.Nlink > 1 && !entry.IsDir() {
			counted[stat.Ino] = true
		}
		usage.Bytes += stat.Blocks * 512
		usage.Inodes++
		return nil
	})
	if err != nil {
		slog.Warn("Measuring directory", "dir", dir, "error", err)
	}
	return usage
}
