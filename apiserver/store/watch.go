package store

import (
	"context"
	"fmt"
	"sync"
)

// EventType says what happened to an object.
type EventType string

// The three things that happen to objects.
const (
	Added    EventType = "ADDED"
	Modified EventType = "MODIFIED"
	Deleted  EventType = "DELETED"
)

// Event is one change of one object. Previous is the object before it, for a
// watch with a selector has to tell "left the selection" from "changed".
type Event struct {
	Type     EventType
	Object   Object
	Previous Object
	Revision int64
}

// TooOldError says that a resourceVersion lies before what is still known.
// The client has to list again; HTTP calls it 410 Gone.
type TooOldError struct{ Asked, Oldest int64 }

func (e *TooOldError) Error() string {
	return fmt.Sprintf("too old resource version: %d (%d)", e.Asked, e.Oldest)
}

// FutureError says that a resourceVersion has not been written yet.
type FutureError struct{ Asked int64 }

func (e *FutureError) Error() string { return fmt.Sprintf("revision %d lies in the future", e.Asked) }

// Watcher receives the changes of one table in order. A client that does not
// read fast enough is cut off at watcherBacklog events: it comes back with the
// last resourceVersion it saw.
type Watcher struct {
	cache *cache
	table *table
	after int64 // changes up to this revision are not told

	mu     sync.Mutex
	queue  []Event
	ended  bool
	signal chan struct{} // holds one token when there is something to see
}

const watcherBacklog = 10000

// push is called under the cache's lock; false when the watcher has ended.
func (w *Watcher) push(ev Event) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended {
		return false
	}
	if ev.Revision <= w.after {
		return true
	}
	if len(w.queue) >= watcherBacklog {
		w.ended = true
	} else {
		w.queue = append(w.queue, ev)
	}
	w.wake()
	return !w.ended
}

func (w *Watcher) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.wake()
}

func (w *Watcher) wake() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}

// Ready is signalled when Take has something, or the watch has ended.
func (w *Watcher) Ready() <-chan struct{} { return w.signal }

// Take returns the events since the last call; more is false when there will
// be no further ones.
func (w *Watcher) Take() (events []Event, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events, w.queue = w.queue, nil
	return events, !w.ended
}

// Bookmark returns the revision up to which this watcher has been told
// everything, or false when events are still waiting to be taken.
func (w *Watcher) Bookmark() (int64, bool) {
	w.cache.mu.RLock()
	defer w.cache.mu.RUnlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cache.revision, len(w.queue) == 0 && !w.ended && w.cache.revision >= w.after
}

// Stop ends the watch.
func (w *Watcher) Stop() {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	delete(w.table.watchers, w)
	w.end()
}

// WatchFrom returns the changes after revision, which may lie ahead of this
// copy: the client saw it at another API server.
func (s *Store) WatchFrom(prefix string, revision int64) (*Watcher, error) {
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tables[prefix]
	if revision < t.floor {
		return nil, &TooOldError{Asked: revision, Oldest: t.floor}
	}
	w := c.newWatcher(t, revision)
	for _, ev := range t.history {
		w.push(ev)
	}
	return w, nil
}

// WatchList returns the objects that are there now, the revision they were
// read at, and a watcher with everything that happens after it. The copy is
// first awaited to have reached minimum (0: any state will do).
func (s *Store) WatchList(ctx context.Context, prefix, under string, minimum int64) ([]Object, int64, *Watcher, error) {
	if err := s.Wait(ctx, minimum); err != nil {
		return nil, 0, nil, err
	}
	c := s.cache
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tables[prefix]
	return t.below(under), c.revision, c.newWatcher(t, c.revision), nil
}

func (c *cache) newWatcher(t *table, after int64) *Watcher {
	w := &Watcher{cache: c, table: t, after: after, signal: make(chan struct{}, 1)}
	t.watchers[w] = struct{}{}
	return w
}
