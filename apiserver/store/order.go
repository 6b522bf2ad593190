package store

import "slices"

// A write of this server becomes known twice: its transaction is confirmed, and
// etcd's watch tells it. Whichever comes first is applied to the copy, but in
// the order of revisions, for that is what watchers are promised:
//
//	copy at 41, own write 42 is confirmed   applied; when the watch tells 42, it is known
//	copy at 41, own write 43 is confirmed   kept until 42 is told, which somebody else wrote
//
// So a writer need not wait for the watch, and an object that was encoded here
// need not be decoded here.

// change is what one key has become; object is nil when it was deleted.
type change struct {
	key    string
	object Object
}

// waiter waits for the copy to reach a revision.
type waiter struct {
	revision int64
	reached  chan struct{}
}

// written takes the changes of a confirmed transaction.
func (c *cache) written(revision int64, changes []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case revision <= c.revision: // the watch was faster
	case revision == c.revision+1 && !c.loading:
		c.apply(revision, changes)
	default:
		c.early[revision] = changes
	}
}

// knows is asked for each revision that the watch tells, in order: everything
// before it is in the copy. The changes need not be decoded when it answers yes.
func (c *cache) knows(revision int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if changes, ok := c.early[revision]; ok && revision > c.revision {
		c.apply(revision, changes)
	}
	return revision <= c.revision
}

// told takes what the watch told of a revision.
func (c *cache) told(revision int64, changes []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision > c.revision {
		c.apply(revision, changes)
	}
}

// apply is the next step of the copy, under the lock.
func (c *cache) apply(revision int64, changes []change) {
	for _, ch := range changes {
		if ch.object == nil {
			c.remove(ch.key, revision)
		} else {
			c.put(entry{key: ch.key, object: ch.object, revision: revision})
		}
	}
	c.reach(revision)
}

// advance notes that nothing was written up to revision but what was told.
func (c *cache) advance(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision > c.revision {
		c.reach(revision)
	}
}

// reach wakes those who wait for this revision, and goes on with what came early.
func (c *cache) reach(revision int64) {
	c.revision = revision
	delete(c.early, revision)
	c.waiters = slices.DeleteFunc(c.waiters, func(w waiter) bool {
		if w.revision <= revision {
			close(w.reached)
		}
		return w.revision <= revision
	})
	if next, ok := c.early[revision+1]; ok {
		c.apply(revision+1, next)
	}
}

// whenReached returns a channel that is closed when the copy has reached
// revision, or nil when it has.
func (c *cache) whenReached(revision int64) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revision >= revision {
		return nil
	}
	w := waiter{revision: revision, reached: make(chan struct{})}
	c.waiters = append(c.waiters, w)
	return w.reached
}

// giveUp takes back whenReached.
func (c *cache) giveUp(reached <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters = slices.DeleteFunc(c.waiters, func(w waiter) bool { return w.reached == reached })
}
