package store

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// configMaps writes and reads one kind.
type configMaps struct{}

func (configMaps) Encode(obj Object) ([]byte, error) { return json.Marshal(obj) }

func (configMaps) Decode(_ string, value []byte) (Object, error) {
	cm := &corev1.ConfigMap{}
	return cm, json.Unmarshal(value, cm)
}

func openStore(t *testing.T) *Store {
	t.Helper()
	e, err := StartEmbedded(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	s, err := Open(t.Context(), Config{Embedded: e, Tables: []string{table1}, Codec: configMaps{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func create(ctx context.Context, s *Store, name string) (Object, error) {
	return s.Modify(ctx, table1+"default/"+name, func(Object) (Write, error) {
		return Write{Object: &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}}}, nil
	})
}

// Somebody else may keep keys in the same etcd. They count its revision up, and
// the watch does not tell of them; a list, which has to show everything that is
// written, must not wait for what never comes.
func TestForeignKey(t *testing.T) {
	s := openStore(t)
	put, err := s.client.Put(t.Context(), "/somebody/else", "x")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	_, revision, err := s.List(ctx, table1, table1, -1)
	if err != nil || revision < put.Header.Revision {
		t.Errorf("list of revision %d, %v; the key is of %d", revision, err, put.Header.Revision)
	}
}

// Writers of this server and of others, side by side: each sees its own write
// at once, and a watcher is told everything in order.
func TestWritersSideBySide(t *testing.T) {
	s := openStore(t)
	w, err := s.WatchFrom(table1, s.CachedRevision())
	if err != nil {
		t.Fatal(err)
	}
	const writers, each = 8, 50
	var group sync.WaitGroup
	for i := range writers {
		group.Go(func() {
			for n := range each {
				name := fmt.Sprintf("cm-%d-%d", i, n)
				if i%2 == 0 { // as another server does it
					value, _ := json.Marshal(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}})
					if _, err := s.client.Put(t.Context(), table1+"default/"+name, string(value)); err != nil {
						t.Error(err)
					}
					continue
				}
				if _, err := create(t.Context(), s, name); err != nil {
					t.Error(err)
				}
				if _, ok := s.Cached(table1 + "default/" + name); !ok {
					t.Errorf("%s is written, and not to be seen", name)
				}
			}
		})
	}
	group.Wait()
	if _, _, err := s.List(t.Context(), table1, table1, -1); err != nil { // everything is there then
		t.Fatal(err)
	}
	events, _ := w.Take()
	if len(events) != writers*each {
		t.Errorf("%d events of %d writes", len(events), writers*each)
	}
	for i, ev := range events[1:] {
		if ev.Revision <= events[i].Revision {
			t.Fatalf("revision %d comes after %d", ev.Revision, events[i].Revision)
		}
	}
}
