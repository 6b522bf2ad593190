package store

import (
	"slices"
	"strconv"
	"strings"
	"sync"
)

// cache is the copy of etcd's content in memory. One lock guards all of it:
// what is done under the lock is a few map operations.
type cache struct {
	mu       sync.RWMutex
	tables   map[string]*table  // by prefix
	revision int64              // everything up to here has been applied
	waiters  []waiter           // for a later revision
	early    map[int64][]change // own writes that came before what precedes them
	loading  bool               // what is there is about to be replaced
}

// table is one resource: all keys with one prefix.
type table struct {
	prefix   string
	entries  []entry // sorted by key: a list's order
	watchers map[*Watcher]struct{}

	// history holds the last changes, oldest first, so that a client that
	// lost its connection resumes where it was. It reaches back to the
	// revision floor; who is older has to list again.
	history []Event
	floor   int64
}

type entry struct {
	key      string
	object   Object
	revision int64
}

// historyLength bounds the changes kept per resource: 512 updates of 4 KB pods
// are 2 MB.
const historyLength = 512

func newCache(prefixes []string) *cache {
	c := &cache{tables: map[string]*table{}, early: map[int64][]change{}, loading: true}
	for _, p := range prefixes {
		c.tables[p] = &table{prefix: p, watchers: map[*Watcher]struct{}{}}
	}
	return c
}

// prefixOf finds the table of a key: "/registry/pods/default/web" is in
// "/registry/pods/", "/registry/services/specs/default/web" in
// "/registry/services/specs/".
func (c *cache) prefixOf(key string) (string, bool) {
	end := len(Root)
	for range 3 {
		i := strings.IndexByte(key[min(end, len(key)):], '/')
		if i < 0 {
			return "", false
		}
		end += i + 1
		if _, ok := c.tables[key[:end]]; ok {
			return key[:end], true
		}
	}
	return "", false
}

// replace puts a fresh load in the place of everything. Watchers cannot be
// told what happened in between, so they end.
func (c *cache) replace(entries []entry, revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endWatchers()
	for _, t := range c.tables {
		t.entries, t.history, t.floor = nil, nil, revision
	}
	for _, e := range entries { // sorted by key, as etcd gives them
		prefix, _ := c.prefixOf(e.key)
		t := c.tables[prefix]
		t.entries = append(t.entries, e)
	}
	for early := range c.early {
		if early <= revision {
			delete(c.early, early)
		}
	}
	c.loading = false
	c.reach(revision)
}

// unload is called before a load: what is written from now on waits for it.
func (c *cache) unload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loading = true
}

// put and remove change one key; apply calls them.
func (c *cache) put(e entry) {
	prefix, ok := c.prefixOf(e.key)
	if !ok {
		return
	}
	t := c.tables[prefix]
	i, exists := t.find(e.key)
	if exists {
		old := t.entries[i].object
		t.entries[i] = e
		t.record(Event{Type: Modified, Object: e.object, Previous: old, Revision: e.revision})
		return
	}
	t.entries = slices.Insert(t.entries, i, e)
	t.record(Event{Type: Added, Object: e.object, Revision: e.revision})
}

// remove takes key away. The event carries the last state of the object with
// the revision of its deletion, as upstream's does.
func (c *cache) remove(key string, revision int64) {
	prefix, ok := c.prefixOf(key)
	if !ok {
		return
	}
	t := c.tables[prefix]
	i, exists := t.find(key)
	if !exists {
		return
	}
	old := t.entries[i].object
	t.entries = slices.Delete(t.entries, i, i+1)
	last := old.DeepCopyObject().(Object)
	last.SetResourceVersion(formatRevision(revision))
	t.record(Event{Type: Deleted, Object: last, Previous: old, Revision: revision})
}

// find is where key is, or where it belongs.
func (t *table) find(key string) (int, bool) {
	return slices.BinarySearchFunc(t.entries, key, func(e entry, key string) int { return strings.Compare(e.key, key) })
}

// below are the objects whose keys begin with under, in key order. under is the
// table's prefix, or that and a namespace: "/registry/pods/default/".
func (t *table) below(under string) []Object {
	first, _ := t.find(under)
	end := len(t.entries)
	if under != t.prefix {
		end = first
		for end < len(t.entries) && strings.HasPrefix(t.entries[end].key, under) {
			end++
		}
	}
	objects := make([]Object, 0, end-first)
	for _, e := range t.entries[first:end] {
		objects = append(objects, e.object)
	}
	return objects
}

// record keeps an event for those who resume and hands it to those who watch.
func (t *table) record(ev Event) {
	if len(t.history) == historyLength {
		t.floor = t.history[0].Revision
		copy(t.history, t.history[1:])
		t.history = t.history[:historyLength-1]
	}
	t.history = append(t.history, ev)
	for w := range t.watchers {
		if !w.push(ev) {
			delete(t.watchers, w)
		}
	}
}

func (c *cache) currentRevision() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.revision
}

func (c *cache) get(key string) (entry, bool) {
	prefix, ok := c.prefixOf(key)
	if !ok {
		return entry{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	t := c.tables[prefix]
	i, ok := t.find(key)
	if !ok {
		return entry{}, false
	}
	return t.entries[i], true
}

// list returns the objects below under, and the revision they were read at.
func (c *cache) list(prefix, under string) ([]Object, int64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.tables[prefix].below(under), c.revision
}

// endWatchers is called under the lock.
func (c *cache) endWatchers() {
	for _, t := range c.tables {
		for w := range t.watchers {
			w.end()
			delete(t.watchers, w)
		}
	}
}

func formatRevision(revision int64) string { return strconv.FormatInt(revision, 10) }

// ParseRevision reads a resourceVersion; 0 when it is none.
func ParseRevision(resourceVersion string) int64 {
	revision, err := strconv.ParseInt(resourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return revision
}
