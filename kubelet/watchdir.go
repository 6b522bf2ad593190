package kubelet

import (
	"context"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"
)

// watchDir tells about changes in a directory, by inotify(7). One message may stand for many changes.
func watchDir(ctx context.Context, dir string) <-chan struct{} {
	changes := make(chan struct{}, 1)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		slog.Error("Watching directory", "dir", dir, "error", err)
		return changes
	}
	file := os.NewFile(uintptr(fd), "inotify")
	const events = unix.IN_CREATE | unix.IN_MODIFY | unix.IN_CLOSE_WRITE | unix.IN_DELETE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM
	if _, err := unix.InotifyAddWatch(fd, dir, events); err != nil {
		slog.Error("Watching directory", "dir", dir, "error", err)
		file.Close()
		return changes
	}
	stop := context.AfterFunc(ctx, func() { file.Close() })
	go func() {
		defer stop()
		defer file.Close()
		buffer := make([]byte, 4096)
		for {
			if _, err := file.Read(buffer); err != nil {
				return
			}
			select {
			case changes <- struct{}{}:
			default:
			}
		}
	}()
	return changes
}
