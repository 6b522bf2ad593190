package dns

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// run reads the upstreams from a resolv.conf, and again whenever it changes,
// until ctx is done. No file and no nameserver are fine: a cluster without a
// way out answers REFUSED to what it cannot know.
func (f *forwarder) run(ctx context.Context, resolvConf string) error {
	defer f.stop()
	if resolvConf == "" {
		<-ctx.Done()
		return nil
	}
	changes, err := watchFile(ctx, resolvConf)
	if err != nil {
		return err
	}
	var current []string
	for first := true; ; first = false {
		servers, err := nameservers(resolvConf)
		switch {
		case err != nil && first:
			return err
		case err != nil: // half written: there is another change to come
			slog.Warn("upstreams stay as they were", "err", err)
		case first || !slices.Equal(servers, current):
			slog.Info("upstreams", "servers", servers, "file", resolvConf)
			f.checkLoops(f.setDefault(servers))
			current = servers
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		}
	}
}

// nameservers are those of a resolv.conf: "192.0.2.53:53".
func nameservers(resolvConf string) ([]string, error) {
	config, err := dns.ClientConfigFromFile(resolvConf)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read upstreams from %s: %w", resolvConf, err)
	}
	servers := make([]string, 0, len(config.Servers))
	for _, server := range config.Servers {
		address, err := UpstreamAddress(server)
		if err != nil {
			return nil, fmt.Errorf("read upstreams from %s: %w", resolvConf, err)
		}
		servers = append(servers, address)
	}
	return servers, nil
}

// watchFile tells of changes of a file until ctx is done (inotify(7)): of what
// is in it, for a file mounted into a pod is one inode; and of its directory,
// for most programs write a new file and rename it.
func watchFile(ctx context.Context, path string) (<-chan struct{}, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	_, errDir := unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_CREATE|unix.IN_MOVED_TO)
	_, errFile := unix.InotifyAddWatch(fd, path, unix.IN_CLOSE_WRITE)
	if errDir != nil && errFile != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("watch %s: %w", path, errors.Join(errDir, errFile))
	}
	events := os.NewFile(uintptr(fd), "inotify")
	raw, err := events.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", path, err)
	}
	context.AfterFunc(ctx, func() { events.Close() })
	changes := make(chan struct{}, 1)
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := events.Read(buf); err != nil {
				return // closed
			}
			_ = raw.Control(func(fd uintptr) { // it may be another file now
				_, _ = unix.InotifyAddWatch(int(fd), path, unix.IN_CLOSE_WRITE)
			})
			select {
			case changes <- struct{}{}:
			default: // one is waiting to be seen
			}
		}
	}()
	return changes, nil
}

// searchDomains are those of a resolv.conf: with search completion the node's
// follow the cluster's, as in a pod's own resolv.conf.
func searchDomains(resolvConf string) []string {
	config, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil
	}
	domains := make([]string, 0, len(config.Search))
	for _, domain := range config.Search {
		domains = append(domains, dns.CanonicalName(domain))
	}
	return domains
}
