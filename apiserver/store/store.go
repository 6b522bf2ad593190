package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Object is what is stored: any API object with metadata. Objects that come
// out of the store are shared by everybody and must not be changed; DeepCopy
// first.
type Object = interface {
	runtime.Object
	metav1.Object
}

// Codec turns objects into values in etcd and back.
type Codec interface {
	// Encode leaves out resourceVersion: it is the revision of the write
	// itself and not known yet.
	Encode(obj Object) ([]byte, error)
	// Decode reads a value of the table with this prefix.
	Decode(prefix string, value []byte) (Object, error)
}

// Config says where etcd is and what is kept in it. Either Embedded or
// Endpoints is set.
type Config struct {
	Embedded  *Embedded
	Endpoints []string
	TLS       *tls.Config

	// Tables are the key prefixes of all resources, such as
	// "/registry/pods/" and "/registry/services/specs/".
	Tables []string
	Codec  Codec
}

// Root is the prefix of all keys.
const Root = "/registry/"

// Store is the door to etcd. It is safe for concurrent use.
type Store struct {
	client *clientv3.Client
	codec  Codec
	cache  *cache
	lease  leases

	cancel context.CancelFunc
	done   chan struct{}
}

// Open connects to etcd, loads everything below Root, and keeps that copy up
// to date until Close.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	client, err := connect(ctx, cfg)
	if err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.Background())
	s := &Store{
		client: client,
		codec:  cfg.Codec,
		cache:  newCache(cfg.Tables),
		cancel: cancel,
		done:   make(chan struct{}),
	}
	revision, err := s.load(ctx)
	if err != nil {
		cancel()
		client.Close()
		return nil, fmt.Errorf("load objects from etcd: %w", err)
	}
	go s.follow(run, revision)
	go s.compact(run)
	return s, nil
}

func connect(ctx context.Context, cfg Config) (*clientv3.Client, error) {
	if cfg.Embedded != nil {
		return cfg.Embedded.client(), nil
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    30 * time.Second,
		DialKeepAliveTimeout: 10 * time.Second,
		Logger:               zap.NewNop(),
	})
	if err != nil {
		return nil, fmt.Errorf("connect to etcd at %v: %w", cfg.Endpoints, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := client.Get(ctx, Root, clientv3.WithCountOnly()); err != nil {
		client.Close()
		return nil, fmt.Errorf("reach etcd at %v (does it run, and are --etcd-cafile, --etcd-certfile, --etcd-keyfile right?): %w", cfg.Endpoints, err)
	}
	return client, nil
}

// Close ends all watches and the connection.
func (s *Store) Close() {
	s.cancel()
	<-s.done
	s.cache.mu.Lock()
	s.cache.endWatchers()
	s.cache.mu.Unlock()
	s.client.Close()
}

// load fills the copy with what etcd has now and returns its revision.
func (s *Store) load(ctx context.Context) (int64, error) {
	s.cache.unload()
	resp, err := s.client.Get(ctx, Root, clientv3.WithPrefix())
	if err != nil {
		return 0, err
	}
	entries := make([]entry, 0, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		if e, ok := s.entry(string(kv.Key), kv.Value, kv.ModRevision); ok {
			entries = append(entries, e)
		}
	}
	s.cache.replace(entries, resp.Header.Revision)
	return resp.Header.Revision, nil
}

// entry decodes a value. What cannot be read is told and left out: one bad
// value must not take the whole cluster away.
func (s *Store) entry(key string, value []byte, revision int64) (entry, bool) {
	prefix, ok := s.cache.prefixOf(key)
	if !ok {
		return entry{}, false
	}
	obj, err := s.decode(prefix, value, revision)
	if err != nil {
		slog.Error("value in etcd cannot be read and is ignored", "key", key, "err", err)
		return entry{}, false
	}
	return entry{key: key, object: obj, revision: revision}, true
}

func (s *Store) decode(prefix string, value []byte, revision int64) (Object, error) {
	obj, err := s.codec.Decode(prefix, value)
	if err != nil {
		return nil, err
	}
	obj.SetResourceVersion(formatRevision(revision))
	return obj, nil
}

// follow applies etcd's events to the copy. When the watch breaks (etcd
// restarted, or compacted what we had not seen), it loads everything anew;
// API watches end then and their clients list again.
func (s *Store) follow(ctx context.Context, revision int64) {
	defer close(s.done)
	for ctx.Err() == nil {
		err := s.watch(ctx, revision)
		if ctx.Err() != nil {
			return
		}
		slog.Warn("watch on etcd broke, loading all objects again", "err", err)
		for {
			if revision, err = s.load(ctx); err == nil {
				break
			}
			if !pause(ctx, 500*time.Millisecond) {
				return
			}
			slog.Warn("etcd does not answer", "err", err)
		}
	}
}

func (s *Store) watch(ctx context.Context, after int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes := s.client.Watch(clientv3.WithRequireLeader(ctx), Root,
		clientv3.WithPrefix(), clientv3.WithRev(after+1), clientv3.WithProgressNotify())
	for resp := range changes {
		if err := resp.Err(); err != nil {
			return err
		}
		s.tell(resp)
	}
	return errors.New("stream ended")
}

// tell applies a response of the watch. All events of one revision come in one
// response, one behind the other.
func (s *Store) tell(resp clientv3.WatchResponse) {
	if len(resp.Events) == 0 { // progress: there was nothing more up to here
		s.cache.advance(resp.Header.Revision)
		return
	}
	for events := resp.Events; len(events) > 0; {
		revision, count := events[0].Kv.ModRevision, 1
		for count < len(events) && events[count].Kv.ModRevision == revision {
			count++
		}
		if !s.cache.knows(revision) {
			s.cache.told(revision, s.changes(events[:count]))
		}
		events = events[count:]
	}
}

func (s *Store) changes(events []*clientv3.Event) []change {
	changes := make([]change, 0, len(events))
	for _, ev := range events {
		key := string(ev.Kv.Key)
		if ev.Type == clientv3.EventTypeDelete {
			changes = append(changes, change{key: key})
		} else if e, ok := s.entry(key, ev.Kv.Value, ev.Kv.ModRevision); ok {
			changes = append(changes, change{key: key, object: e.object})
		}
	}
	return changes
}

// pause waits for d; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// compactInterval is how long etcd keeps old revisions, as upstream's
// --etcd-compaction-interval: continue tokens and resourceVersions older than
// this may be answered with 410 Gone.
const compactInterval = 5 * time.Minute

// compact forgets, every compactInterval, what was old at the last turn.
// Several API servers on one etcd do this beside each other; the later one
// finds its work done.
func (s *Store) compact(ctx context.Context) {
	last := s.cache.currentRevision()
	for pause(ctx, compactInterval) {
		if err := s.Compact(ctx, last); err == nil {
			slog.Debug("compacted etcd", "revision", last)
		}
		last = s.cache.currentRevision()
	}
}

// Compact lets etcd forget what was before revision.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	_, err := s.client.Compact(ctx, revision)
	return err
}
