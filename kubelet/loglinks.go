package kubelet

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/podarium/podarium/kubelet/runtime"
)

// Log collectors look into /var/log/containers, where the name of a link tells all that they want to know of a log:
//
//	/var/log/containers/web-0_shop_nginx-3f2a….log → /var/log/pods/shop_web-0_UID/nginx/0.log

// maxFileName is how many bytes a file's name may have.
const maxFileName = 255

func (cfg Config) logLinkDir() string { return filepath.Join(filepath.Dir(cfg.LogDir), "containers") }

func logLink(dir string, r runtime.Record) string {
	const suffix = ".log"
	name := r.PodName + "_" + r.PodNamespace + "_" + r.Name + "-" + r.ID
	return filepath.Join(dir, name[:min(len(name), maxFileName-len(suffix))]+suffix)
}

// linkLog makes the link of a container which has started.
func (k *Kubelet) linkLog(r runtime.Record) {
	link := logLink(k.cfg.logLinkDir(), r)
	if err := os.Symlink(r.LogPath, link); err != nil && !errors.Is(err, fs.ErrExist) {
		slog.Warn("Linking log", "container", r.Name, "pod", r.PodNamespace+"/"+r.PodName, "error", err)
	}
}

// sweepLogLinks removes the links whose logs are gone.
func (k *Kubelet) sweepLogLinks() {
	dir := k.cfg.logLinkDir()
	entries, err := os.ReadDir(dir)
	if err != nil {
		slog.Warn("Listing links to logs", "error", err)
		return
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if entry.Type() != fs.ModeSymlink {
			continue
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			slog.Warn("Removing link to log", "error", err)
		}
	}
}
