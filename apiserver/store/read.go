package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrNotFound says that there is no object under a key.
var ErrNotFound = errors.New("object not found")

// Revision asks etcd for the revision of the last write by anybody. Who then
// waits for the copy to reach it has seen all that was written before asking.
func (s *Store) Revision(ctx context.Context) (int64, error) {
	resp, err := s.client.Get(ctx, Root, clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// progressAfter is how long the watch may be silent before it is asked how far
// it is.
const progressAfter = 100 * time.Millisecond

// Wait returns when the copy has reached revision. When that is the revision of
// somebody's key outside Root, the watch tells only if it is asked.
func (s *Store) Wait(ctx context.Context, revision int64) error {
	reached := s.cache.whenReached(revision)
	if reached == nil {
		return nil
	}
	silence := time.NewTicker(progressAfter)
	defer silence.Stop()
	for {
		select {
		case <-reached:
			return nil
		case <-ctx.Done():
			s.cache.giveUp(reached)
			return ctx.Err()
		case <-silence.C:
			if err := s.client.RequestProgress(clientv3.WithRequireLeader(ctx)); err != nil {
				slog.Debug("watch on etcd cannot be asked for its progress", "err", err)
			}
		}
	}
}

// CachedRevision is what the copy has reached.
func (s *Store) CachedRevision() int64 { return s.cache.currentRevision() }

// Get returns the object as it is in etcd now.
//
// etcd is asked for the key's revision only; the object itself comes from the
// copy, which has it decoded already.
func (s *Store) Get(ctx context.Context, key string) (Object, error) {
	resp, err := s.client.Get(ctx, key, clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, ErrNotFound
	}
	if e, ok := s.cache.get(key); ok && e.revision == resp.Kvs[0].ModRevision {
		return e.object, nil
	}
	return s.fetch(ctx, key)
}

// fetch reads key from etcd, past the copy.
func (s *Store) fetch(ctx context.Context, key string) (Object, error) {
	resp, err := s.client.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	if len(resp.Kvs) == 0 {
		return nil, ErrNotFound
	}
	prefix, ok := s.cache.prefixOf(key)
	if !ok {
		return nil, fmt.Errorf("no table for key %s", key)
	}
	return s.decode(prefix, resp.Kvs[0].Value, resp.Kvs[0].ModRevision)
}

// Cached returns the object from the copy, which may be some milliseconds
// old. It never blocks: authorization and admission use it.
func (s *Store) Cached(key string) (Object, bool) {
	e, ok := s.cache.get(key)
	return e.object, ok
}

// CachedList returns all objects below under from the copy.
func (s *Store) CachedList(prefix, under string) []Object {
	objects, _ := s.cache.list(prefix, under)
	return objects
}

// List returns the objects of the table prefix whose keys begin with under, in
// key order, and the revision they were read at: minimum or a later one. When
// minimum is negative, the list has everything that was written before the call.
func (s *Store) List(ctx context.Context, prefix, under string, minimum int64) ([]Object, int64, error) {
	if minimum < 0 {
		var err error
		if minimum, err = s.Revision(ctx); err != nil {
			return nil, 0, err
		}
	}
	if err := s.Wait(ctx, minimum); err != nil {
		return nil, 0, err
	}
	objects, revision := s.cache.list(prefix, under)
	return objects, revision, nil
}

// Page returns up to limit objects as they were at a past revision, beginning
// with the key start, and the key to go on with ("" at the end), and how many
// remain after it. It reads etcd's history. A compacted revision is a *TooOldError.
func (s *Store) Page(ctx context.Context, prefix, under, start string, limit, revision int64) (objects []Object, next string, remaining int64, err error) {
	if !strings.HasPrefix(start, under) {
		start = under
	}
	resp, err := s.client.Get(ctx, start, clientv3.WithRange(clientv3.GetPrefixRangeEnd(under)),
		clientv3.WithRev(revision), clientv3.WithLimit(limit))
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil, "", 0, &TooOldError{Asked: revision}
	}
	if errors.Is(err, rpctypes.ErrFutureRev) {
		return nil, "", 0, &FutureError{Asked: revision}
	}
	if err != nil {
		return nil, "", 0, err
	}
	for _, kv := range resp.Kvs {
		obj, err := s.decode(prefix, kv.Value, kv.ModRevision)
		if err != nil {
			return nil, "", 0, fmt.Errorf("read %s: %w", kv.Key, err)
		}
		objects = append(objects, obj)
	}
	if resp.More {
		next = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		remaining = resp.Count - int64(len(resp.Kvs))
	}
	return objects, next, remaining, nil
}
