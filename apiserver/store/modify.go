package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Write is what a caller of Modify wants to be under the key.
type Write struct {
	// Object is the new state; nil deletes the key.
	Object Object

	// Claims are further keys that must be free now and are taken together
	// with the write; Releases are keys given back. All or nothing happens.
	Claims   []Claim
	Releases []string

	// Unchanged says that Object is what is there already: nothing is written.
	Unchanged bool

	// DryRun goes through everything but the write.
	DryRun bool

	// TTL, when not zero, lets etcd delete the key after about this long.
	TTL time.Duration
}

// Claim is a key that only one can have: the object under
// /registry/ipaddresses/10.96.0.10 makes 10.96.0.10 its owner's.
type Claim struct {
	Key    string
	Object Object
}

// ClaimedError says that somebody else has a key that was to be claimed.
type ClaimedError struct{ Key string }

func (e *ClaimedError) Error() string { return fmt.Sprintf("key %s is taken", e.Key) }

// Modify is the one way to write. change gets the object under key (nil when
// there is none), which it must not alter, and says what shall be there
// instead. When somebody wrote in between, change is called again with the new
// state; it must therefore have no side effects.
//
// The first try uses the copy in memory. An error of change, or that it changes
// nothing, is only believed when the object is really what etcd has.
//
// Modify returns the object as written, with its resourceVersion, or the
// deleted one; and when it returns, reads from the copy see the write.
func (s *Store) Modify(ctx context.Context, key string, change func(current Object) (Write, error)) (Object, error) {
	current, cached := s.mostLikely(key), true
	for {
		w, err := change(current)
		if (err != nil || w.Unchanged) && cached {
			fresh, ferr := s.fetchOrNil(ctx, key)
			if ferr != nil {
				return nil, ferr
			}
			cached = false
			if revisionOf(fresh) != revisionOf(current) {
				current = fresh
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		done, ok, err := s.commit(ctx, key, current, w)
		if err != nil || ok {
			return done, err
		}
		if current, err = s.fetchOrNil(ctx, key); err != nil {
			return nil, err
		}
		cached = false
	}
}

// mostLikely is what the copy has under key. When it has nothing, most likely
// there is nothing, and a create need not ask etcd twice.
func (s *Store) mostLikely(key string) Object {
	if e, ok := s.cache.get(key); ok {
		return e.object
	}
	return nil
}

func (s *Store) fetchOrNil(ctx context.Context, key string) (Object, error) {
	obj, err := s.fetch(ctx, key)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return obj, err
}

func revisionOf(obj Object) int64 {
	if obj == nil {
		return 0
	}
	return ParseRevision(obj.GetResourceVersion())
}

// commit tries the write; ok is false when the object changed in between.
func (s *Store) commit(ctx context.Context, key string, current Object, w Write) (Object, bool, error) {
	switch {
	case w.Unchanged:
		return current, true, nil
	case w.DryRun:
		if w.Object == nil {
			return current, true, nil
		}
		return w.Object, true, nil
	}
	conditions := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", revisionOf(current))}
	writes, err := s.writes(ctx, key, w)
	if err != nil {
		return nil, false, err
	}
	otherwise := []clientv3.Op{clientv3.OpGet(key, clientv3.WithKeysOnly())}
	for _, c := range w.Claims {
		value, err := s.codec.Encode(c.Object)
		if err != nil {
			return nil, false, err
		}
		conditions = append(conditions, clientv3.Compare(clientv3.CreateRevision(c.Key), "=", 0))
		writes = append(writes, clientv3.OpPut(c.Key, string(value)))
		otherwise = append(otherwise, clientv3.OpGet(c.Key, clientv3.WithKeysOnly()))
	}
	resp, err := s.client.Txn(ctx).If(conditions...).Then(writes...).Else(otherwise...).Commit()
	if err != nil {
		return nil, false, fmt.Errorf("write %s: %w", key, err)
	}
	if !resp.Succeeded {
		return nil, false, whyNot(resp, current, w.Claims)
	}
	done := w.Object
	if done == nil {
		done = current.DeepCopyObject().(Object)
	}
	done.SetResourceVersion(formatRevision(resp.Header.Revision))
	s.cache.written(resp.Header.Revision, w.changes(key, resp.Header.Revision))
	return done, true, s.Wait(ctx, resp.Header.Revision)
}

// changes are what the write has done to the keys. The objects belong to the
// copy from now on: nobody may alter them.
func (w Write) changes(key string, revision int64) []change {
	changes := []change{{key: key, object: w.Object}}
	for _, c := range w.Claims {
		c.Object.SetResourceVersion(formatRevision(revision))
		changes = append(changes, change{key: c.Key, object: c.Object})
	}
	for _, key := range w.Releases {
		changes = append(changes, change{key: key})
	}
	return changes
}

// whyNot tells a write that failed because the object changed (nil: try again)
// from one whose claim is taken. The object is looked at first: it may be the
// very change that took the claim.
func whyNot(resp *clientv3.TxnResponse, current Object, claims []Claim) error {
	var have int64
	if kvs := resp.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		have = kvs[0].ModRevision
	}
	if have != revisionOf(current) {
		return nil
	}
	for i, c := range claims {
		if len(resp.Responses[i+1].GetResponseRange().Kvs) > 0 {
			return &ClaimedError{Key: c.Key}
		}
	}
	return nil
}

func (s *Store) writes(ctx context.Context, key string, w Write) ([]clientv3.Op, error) {
	var ops []clientv3.Op
	for _, release := range w.Releases {
		ops = append(ops, clientv3.OpDelete(release))
	}
	if w.Object == nil {
		return append(ops, clientv3.OpDelete(key)), nil
	}
	value, err := s.codec.Encode(w.Object)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	var opts []clientv3.OpOption
	if w.TTL > 0 {
		lease, err := s.lease.get(ctx, s.client, w.TTL)
		if err != nil {
			return nil, err
		}
		opts = append(opts, clientv3.WithLease(lease))
	}
	return append(ops, clientv3.OpPut(key, string(value), opts...)), nil
}

// leases shares one etcd lease among the keys that are written at about the
// same time: a thousand events need not be a thousand leases.
type leases struct {
	mu    sync.Mutex
	byTTL map[time.Duration]sharedLease
}

type sharedLease struct {
	id    clientv3.LeaseID
	until time.Time // later writes take a new one
}

// get returns a lease that ends between ttl and a tenth more from now.
func (l *leases) get(ctx context.Context, client *clientv3.Client, ttl time.Duration) (clientv3.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if have, ok := l.byTTL[ttl]; ok && time.Now().Before(have.until) {
		return have.id, nil
	}
	window := ttl / 10
	resp, err := client.Grant(ctx, int64((ttl + window).Seconds()))
	if err != nil {
		return 0, fmt.Errorf("grant etcd lease: %w", err)
	}
	if l.byTTL == nil {
		l.byTTL = map[time.Duration]sharedLease{}
	}
	l.byTTL[ttl] = sharedLease{id: resp.ID, until: time.Now().Add(window)}
	return resp.ID, nil
}
