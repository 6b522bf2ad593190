package store

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const table1 = "/registry/configmaps/"

func object(name string, revision int64) entry {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", ResourceVersion: formatRevision(revision)}}
	return entry{key: table1 + "default/" + name, object: cm, revision: revision}
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
		s.cache.put(object("web", revision))
		s.cache.advance(revision)
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
	s.cache.put(object("a", 11))
	s.cache.put(object("a", 12))
	s.cache.remove(table1+"default/a", 13)
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
		s.cache.put(object("web", revision))
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
