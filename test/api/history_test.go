package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestWatchHistory lets fifty clients watch ConfigMaps through two API servers,
// in five ways, while others write at random, etcd and the servers, one or both,
// are killed with SIGKILL, and etcd's history is compacted. What each client saw is then
// compared with the history that etcd itself told an independent client: no
// event is missing, none comes twice, all are in order, and each list is what
// there was at its revision.
func TestWatchHistory(t *testing.T) {
	c := newServers(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var clients []kubernetes.Interface
	for _, url := range c.urls {
		clients = append(clients, c.client(url))
	}
	h := recordHistory(ctx, t, c)
	var watchers, writers sync.WaitGroup
	all := make([]*spectator, 50)
	for i := range all {
		all[i] = newSpectator(i, clients)
		watchers.Go(func() { all[i].run(ctx) })
	}
	writing, stop := context.WithCancel(ctx)
	for i := range 4 {
		writers.Go(func() { writeAtRandom(writing, clients[i%2], uint64(i)) })
	}
	both := c.servers
	for _, victims := range [][]*process{c.servers[:1], c.servers[1:], c.etcds, both, c.servers[:1], both} {
		h.grow(ctx, 500)
		h.compact(ctx)
		h.grow(ctx, 100) // what is after the compaction can be had still
		for _, v := range victims {
			v.kill()
		}
		if len(victims) == len(both) {
			h.write(ctx) // nobody is there to remember it
		}
		for _, v := range victims {
			v.start()
		}
		for _, url := range c.urls {
			c.waitReady(url)
		}
	}
	h.grow(ctx, 500)
	stop()
	writers.Wait()
	c.eventually(30*time.Second, "the end is written", func(ctx context.Context) bool { return writeTheEnd(ctx, clients[0]) == nil })
	watchers.Wait()
	h.stop()
	events, lists, resumed := 0, 0, 0
	for _, s := range all {
		if !s.done {
			t.Errorf("watcher %d (%s) did not see the end", s.id, s.view.name)
		}
		if err := s.check(h.records); err != nil {
			t.Errorf("watcher %d (%s): %v", s.id, s.view.name, err)
		}
		events, lists, resumed = events+s.events, lists+s.lists, resumed+s.resumed
	}
	t.Logf("%d writes, %d events, %d lists, %d times resumed", len(h.records), events, lists, resumed)
	if events < 10000 || lists <= len(all) || resumed < len(all) {
		t.Error("that is too little to tell anything")
	}
}

// record is one line of etcd's history: what a key became.
type record struct {
	revision int64
	key      string
	object   *corev1.ConfigMap // nil: deleted
}

// history is what etcd tells of all ConfigMaps, from its first revision on.
type history struct {
	t      *testing.T
	client *clientv3.Client
	ended  chan struct{}
	cancel context.CancelFunc

	mu      sync.Mutex
	records []record
	grown   chan struct{} // closed with the next record, then replaced
}

func recordHistory(ctx context.Context, t *testing.T, c *controlPlane) *history {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.path("etcd-client.crt"), c.path("etcd-client.key"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(c.etcdCA.CertPEM)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.endpoints, Logger: zap.NewNop(), TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: trusted},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	ctx, cancel := context.WithCancel(ctx)
	h := &history{t: t, client: client, ended: make(chan struct{}), cancel: cancel, grown: make(chan struct{})}
	go h.follow(ctx)
	return h
}

const configMapKeys = "/registry/configmaps/"

func (h *history) follow(ctx context.Context) {
	defer close(h.ended)
	for resp := range h.client.Watch(ctx, configMapKeys, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		if err := resp.Err(); err != nil {
			h.t.Errorf("the record has a gap: %v", err)
			return
		}
		for _, ev := range resp.Events {
			r := record{revision: ev.Kv.ModRevision, key: string(ev.Kv.Key[len(configMapKeys):])}
			if ev.Type == clientv3.EventTypePut {
				r.object = &corev1.ConfigMap{}
				if err := json.Unmarshal(ev.Kv.Value, r.object); err != nil {
					h.t.Errorf("%s: %v", r.key, err)
				}
			}
			h.add(r)
		}
	}
}

func (h *history) add(r record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records = append(h.records, r)
	close(h.grown)
	h.grown = make(chan struct{})
}

func (h *history) state() (length int, last int64, grown <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := len(h.records); n > 0 {
		last = h.records[n-1].revision
	}
	return len(h.records), last, h.grown
}

// grow waits for so many more writes.
func (h *history) grow(ctx context.Context, count int) {
	h.t.Helper()
	length, _, grown := h.state()
	for end := length + count; length < end; length, _, grown = h.state() {
		select {
		case <-grown:
		case <-ctx.Done():
			h.t.Fatal("nobody writes any more")
		}
	}
}

// compact lets etcd forget what is recorded already.
func (h *history) compact(ctx context.Context) {
	h.t.Helper()
	_, last, _ := h.state()
	if _, err := h.client.Compact(ctx, last); err != nil {
		h.t.Fatalf("compact etcd at %d: %v", last, err)
	}
}

// write changes the last object that was written, without an API server.
func (h *history) write(ctx context.Context) {
	h.t.Helper()
	h.mu.Lock()
	last := h.records[len(h.records)-1]
	for i := len(h.records) - 1; last.object == nil; i-- {
		last = h.records[i]
	}
	h.mu.Unlock()
	value, _ := json.Marshal(last.object)
	if _, err := h.client.Put(ctx, configMapKeys+last.key, string(value)); err != nil {
		h.t.Fatalf("write %s: %v", last.key, err)
	}
}

func (h *history) stop() {
	h.cancel()
	<-h.ended
}

// writeAtRandom creates, changes and deletes six names in two namespaces, and
// does not care what becomes of it: etcd tells.
func writeAtRandom(ctx context.Context, client kubernetes.Interface, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 11))
	for n := 0; ctx.Err() == nil; n++ {
		api := client.CoreV1().ConfigMaps([]string{metav1.NamespaceDefault, metav1.NamespacePublic}[random.IntN(2)])
		cm := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("cm-%d", random.IntN(6)), Labels: map[string]string{"color": []string{"red", "green"}[random.IntN(2)]}},
			Data:       map[string]string{"n": fmt.Sprint(seed, "-", n)},
		}
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		switch random.IntN(4) {
		case 0:
			_ = api.Delete(attempt, cm.Name, metav1.DeleteOptions{})
		case 1:
			_, _ = api.Create(attempt, cm, metav1.CreateOptions{})
		default:
			_, _ = api.Update(attempt, cm, metav1.UpdateOptions{})
		}
		cancel()
	}
}

// theEnd is a value that is written last, in an object which everybody watches.
const theEnd = "the end"

func writeTheEnd(ctx context.Context, client kubernetes.Interface) error {
	end := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "cm-3", Labels: map[string]string{"color": "red"}}, Data: map[string]string{"n": theEnd},
	}
	_, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Update(ctx, end, metav1.UpdateOptions{})
	if apierrors.IsNotFound(err) { // a writer's last word was to delete it
		_, err = client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Create(ctx, end, metav1.CreateOptions{})
	}
	return err
}
