package store

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const table1 = "/registry/configmaps/"

func written(name string, revision int64) []change {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", ResourceVersion: formatRevision(revision)}}
	return []change{{key: table1 + "default/" + name, object: cm}}
}

func told(w *Watcher) string {
	text := ""
	events, more := w.Take()
	for _, ev := range events {
		text += fmt.Sprintf("%s %s %d\n", ev.Type, ev.Object.GetName(), ev.Revision)
	}
	if !more {
		text += "end\n"
	}
	return text
}

func storeAt(revision int64) *Store {
	s := &Store{cache: newCache([]string{table1})}
	s.cache.replace(nil, revision)
	return s
}

// A client that saw revision 12 at another API server, and comes to this one,
// whose copy is at 10, is told what is after 12 and nothing twice.
func TestWatchFromAhead(t *testing.T) {
	s := storeAt(10)
	w, err := s.WatchFrom(table1, 12)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := w.Bookmark(); ok {
		t.Error("a bookmark would lead the client back")
	}
	for revision := int64(11); revision <= 14; revision++ {
		s.cache.told(revision, written("web", revision))
	}
	if got, want := told(w), "MODIFIED web 13\nMODIFIED web 14\n"; got != want {
		t.Errorf("told\n%swant\n%s", got, want)
	}
	if at, ok := w.Bookmark(); !ok || at != 14 {
		t.Errorf("bookmark %d, %v", at, ok)
	}
}

func TestWatchFromHistory(t *testing.T) {
	s := storeAt(10)
	s.cache.told(11, written("a", 11))
	s.cache.told(12, written("a", 12))
	s.cache.told(13, []change{{key: table1 + "default/a"}})
	for from, want := range map[int64]string{
		10: "ADDED a 11\nMODIFIED a 12\nDELETED a 13\n",
		12: "DELETED a 13\n",
		13: "",
	} {
		w, err := s.WatchFrom(table1, from)
		if err != nil {
			t.Fatal(err)
		}
		if got := told(w); got != want {
			t.Errorf("from %d\n%swant\n%s", from, got, want)
		}
	}
	if _, err := s.WatchFrom(table1, 9); err == nil || err.Error() != "too old resource version: 9 (10)" {
		t.Errorf("from before the beginning: %v", err)
	}
}

// The history is bounded, and so is what waits for a client that does not read.
func TestWatchBounds(t *testing.T) {
	s := storeAt(10)
	slow, err := s.WatchFrom(table1, 10)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(10 + watcherBacklog + 5)
	for revision := int64(11); revision <= last; revision++ {
		s.cache.told(revision, written("web", revision))
	}
	if n := len(s.cache.tables[table1].history); n > 2*historyLength {
		t.Errorf("history holds %d changes", n)
	}
	events, more := slow.Take()
	if len(events) != watcherBacklog || more {
		t.Errorf("slow client: %d events, more %v", len(events), more)
	}
	for i, ev := range events {
		if ev.Revision != int64(11+i) {
			t.Fatalf("event %d is of revision %d", i, ev.Revision)
		}
	}
	if _, err := s.WatchFrom(table1, 11); err == nil {
		t.Error("a watch from what is forgotten is taken")
	}
	if len(s.cache.tables[table1].watchers) != 0 {
		t.Error("the slow watcher is still told")
	}
}

// Own writes are confirmed in any order, and told by the watch as well: before,
// after, or never. Whoever watches sees each once, in order.
func TestOwnWritesInOrder(t *testing.T) {
	s := storeAt(10)
	w, err := s.WatchFrom(table1, 10)
	if err != nil {
		t.Fatal(err)
	}
	reached := s.cache.whenReached(14)
	s.cache.written(11, written("a", 11)) // the next one: at once
	s.cache.written(14, written("d", 14)) // too early
	s.cache.written(13, written("c", 13))
	if got, want := told(w), "ADDED a 11\n"; got != want {
		t.Errorf("told\n%swant\n%s", got, want)
	}
	if !s.cache.knows(11) || s.cache.knows(12) {
		t.Error("11 is known, 12 is another server's")
	}
	s.cache.told(12, written("b", 12))
	select {
	case <-reached:
	default:
		t.Error("who waits for 14 still waits")
	}
	s.cache.written(12, written("never", 12)) // the watch was faster
	s.cache.told(13, written("never", 13))
	if got, want := told(w), "ADDED b 12\nADDED c 13\nADDED d 14\n"; got != want {
		t.Errorf("told\n%swant\n%s", got, want)
	}
	if n := len(s.cache.early); n > 0 {
		t.Errorf("%d writes are kept for ever", n)
	}
}

// While everything is loaded anew, an own write must not be lost in the load
// that is older than it, nor come before what it has.
func TestOwnWriteWhileLoading(t *testing.T) {
	s := storeAt(10)
	s.cache.unload()
	s.cache.written(11, written("a", 11)) // the load has it
	s.cache.written(13, written("c", 13)) // the load is older
	if _, ok := s.Cached(table1 + "default/a"); ok {
		t.Error("the copy changed while it is replaced")
	}
	s.cache.replace([]entry{{key: table1 + "default/a", object: written("a", 11)[0].object, revision: 11}}, 12)
	for _, name := range []string{"a", "c"} {
		if _, ok := s.Cached(table1 + "default/" + name); !ok {
			t.Errorf("%s is lost", name)
		}
	}
	if s.CachedRevision() != 13 {
		t.Errorf("copy at %d", s.CachedRevision())
	}
}

func TestGiveUpWaiting(t *testing.T) {
	s := storeAt(10)
	s.cache.giveUp(s.cache.whenReached(99))
	if n := len(s.cache.waiters); n > 0 {
		t.Errorf("%d still wait", n)
	}
}

// A list has the objects of one namespace, in the order of their names, also
// when another namespace's name begins the same.
func TestListBelow(t *testing.T) {
	s := storeAt(10)
	for i, key := range []string{"web/b", "web-2/a", "web/a", "db/z", "web/c"} {
		cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: key}}
		s.cache.told(int64(11+i), []change{{key: table1 + key, object: cm}})
	}
	s.cache.told(16, []change{{key: table1 + "web/c"}, {key: table1 + "web/never"}})
	for under, want := range map[string]string{
		"": "db/z web-2/a web/a web/b", "web/": "web/a web/b", "db/": "db/z", "nothing/": "",
	} {
		var got []string
		for _, obj := range s.CachedList(table1, table1+under) {
			got = append(got, obj.GetName())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("below %q: %q, want %q", under, got, want)
		}
	}
	if _, ok := s.Cached(table1 + "web/c"); ok {
		t.Error("what is deleted is still there")
	}
}
