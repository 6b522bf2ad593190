package store

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Embedded is an etcd server inside this process, with its data in one
// directory. Nothing of it listens on the network: this process calls it
// directly, and `etcdctl --endpoints=unix://DIR/etcd.sock` reaches it through a
// socket that only root can open.
type Embedded struct {
	server *embed.Etcd
	socket string
	lock   *os.File
	quiet  atomic.Bool // its log, while it is stopped
}

// StartEmbedded starts etcd on the data directory dir, which is made when it
// is missing, and returns when it answers. An empty directory takes 0.1 s.
//
// A damaged directory is an error that names it: etcd itself panics then, on
// goroutines of its own, and that must not be all a user gets to see.
func StartEmbedded(dir string) (*Embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd data directory: %w", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	e := &Embedded{socket: filepath.Join(dir, "etcd.sock"), lock: lock}
	if e.server, err = startEtcd(dir, e.socket, &e.quiet); err != nil {
		lock.Close()
		return nil, fmt.Errorf("etcd cannot use its data in %s (restore the directory from a backup, or move it away to start with an empty cluster): %w", dir, err)
	}
	return e, nil
}

// lockDir makes sure that one process alone uses dir. Without it a second
// etcd would wait for the first one's file lock for ever, silently.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of etcd data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("etcd data directory %s is in use by another process (stop that kube-apiserver first)", dir)
	}
	return f, nil
}

// startEtcd runs etcd's start on a goroutine of its own: when etcd gives up
// there (by panic, or by logging at panic or fatal level, which ends the
// goroutine that logs), the reason arrives here as an error.
func startEtcd(dir, socket string, quiet *atomic.Bool) (*embed.Etcd, error) {
	fatal := make(chan error, 16)
	cfg := etcdConfig(dir, socket)
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZapBridge(fatal, quiet))

	type result struct {
		server *embed.Etcd
		err    error
	}
	done := make(chan result, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				fatal <- fmt.Errorf("%v", p)
			}
		}()
		server, err := embed.StartEtcd(cfg)
		done <- result{server, err}
	}()
	var started result
	select {
	case err := <-fatal:
		return nil, err
	case started = <-done:
		if started.err != nil {
			return nil, started.err
		}
	}
	select {
	case <-started.server.Server.ReadyNotify():
		return started.server, nil
	case err := <-fatal:
		return nil, err
	case err := <-started.server.Err():
		return nil, err
	case <-time.After(time.Minute):
		return nil, fmt.Errorf("etcd did not become ready within a minute")
	}
}

// etcdConfig describes a cluster of one member. The peer address is a name
// only: with one member nobody listens on it and nobody calls it.
func etcdConfig(dir, socket string) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = "podarium"
	cfg.Dir = dir
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{{Scheme: "http", Host: "localhost:2380"}}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.EnableGRPCGateway = false

	// A single member elects itself; it need not wait a whole second for
	// others to object. (A shorter tick would start 60 ms sooner, and cost twice
	// the processor time for ever after.)
	cfg.TickMs, cfg.ElectionMs = 50, 250

	// etcd keeps the last entries of its log in memory, for followers that
	// lag. There are none.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 1000, 100
	return cfg
}

// Endpoint is where another process on this machine reaches this etcd,
// for example "unix:///var/lib/etcd/etcd.sock".
func (e *Embedded) Endpoint() string { return "unix://" + e.socket }

// client calls the server directly, without a connection.
func (e *Embedded) client() *clientv3.Client { return v3client.New(e.server.Server) }

// Failed tells when etcd stops by itself, which it only does on errors of the
// disk.
func (e *Embedded) Failed() <-chan error { return e.server.Err() }

// Close stops etcd and writes what is left to the disk. Clients must be closed
// before it, else etcd waits seconds for them.
func (e *Embedded) Close() {
	e.quiet.Store(true)
	e.server.Close()
	e.lock.Close()
}
