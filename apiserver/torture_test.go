package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// serverConfigVariable makes this test binary an API server: the only kind that
// can be killed.
const serverConfigVariable = "PODARIUM_TEST_APISERVER"

func TestMain(m *testing.M) {
	if text := os.Getenv(serverConfigVariable); text != "" {
		os.Exit(serveForTest(text))
	}
	os.Exit(m.Run())
}

// childConfig is what of a Config can be written down.
type childConfig struct {
	Port                                       int
	Cert, Key, ClientCA, Data, Public, Signing string
}

func serveForTest(text string) int {
	var child childConfig
	if err := json.Unmarshal([]byte(text), &child); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cfg := testConfig()
	cfg.SecurePort, cfg.DataDir, cfg.ClientCAFile = child.Port, child.Data, child.ClientCA
	cfg.TLSCertFile, cfg.TLSKeyFile = child.Cert, child.Key
	cfg.ServiceAccountKeyFiles, cfg.ServiceAccountSigningKeyFile = []string{child.Public}, child.Signing
	if err := Run(context.Background(), cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// mortal is a cluster whose server is a process of its own.
type mortal struct {
	*cluster
	port int
	cmd  *exec.Cmd

	mu sync.Mutex
	up chan struct{} // closed at each start, then replaced
}

func newMortal(t *testing.T) *mortal {
	t.Helper()
	c := startServer(t) // makes keys and certificates
	c.stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{cluster: c, port: l.Addr().(*net.TCPAddr).Port, up: make(chan struct{})}
	l.Close()
	c.url = "https://127.0.0.1:" + strconv.Itoa(m.port)
	m.run()
	t.Cleanup(m.kill)
	return m
}

func (m *mortal) run() {
	m.t.Helper()
	text, _ := json.Marshal(childConfig{
		Port: m.port, Cert: m.cfg.TLSCertFile, Key: m.cfg.TLSKeyFile, ClientCA: m.cfg.ClientCAFile, Data: m.cfg.DataDir,
		Public: m.cfg.ServiceAccountKeyFiles[0], Signing: m.cfg.ServiceAccountSigningKeyFile,
	})
	m.cmd = exec.Command(os.Args[0])
	m.cmd.Env = append(os.Environ(), serverConfigVariable+"="+string(text))
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.waitReady()
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.up)
	m.up = make(chan struct{})
}

// kill is kill -9.
func (m *mortal) kill() {
	m.cmd.Process.Kill()
	m.cmd.Wait()
}

// nextStart is closed when the server has started again. Whoever asks before
// the start of what failed cannot miss it.
func (m *mortal) nextStart() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.up
}

// TestWatchTorture lets 50 clients watch ConfigMaps while others write them at
// random, the server is killed with SIGKILL and the history is compacted. Every
// write of a ConfigMap counts its own counter up by one, so that each watcher
// can tell by itself whether it saw every change once and in order.
func TestWatchTorture(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	m := newMortal(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	const count = 50
	var watchers, writers sync.WaitGroup
	all := make([]*follower, count)
	client := m.admin()
	for i := range all {
		all[i] = &follower{t: t, m: m, api: client.CoreV1().ConfigMaps("default"), id: i, seen: map[string]int{}, live: map[string]bool{}}
		watchers.Go(func() { all[i].run(ctx) })
	}
	stop := make(chan struct{})
	written := make([]int, 4)
	for i := range written {
		writers.Go(func() { written[i] = (&scribbler{t: t, m: m, client: client, id: i}).run(ctx, stop) })
	}
	for range 3 {
		pause(ctx, time.Second)
		list, err := client.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		compactEtcd(t, m.cluster, list.ResourceVersion)
		pause(ctx, 300*time.Millisecond)
		m.kill()
		m.run()
	}
	pause(ctx, time.Second)
	close(stop)
	writers.Wait()
	last := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: sentinel}}
	if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, last, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	watchers.Wait()
	events, relists, resumed := 0, 0, 0
	for _, f := range all {
		if !f.done {
			t.Errorf("watcher %d did not see the end", f.id)
		}
		events, relists, resumed = events+f.events, relists+f.relists, resumed+f.resumed
	}
	total := 0
	for _, n := range written {
		total += n
	}
	t.Logf("%d writes, %d events, %d times resumed, %d times listed anew", total, events, resumed, relists)
	if total < 100 || events < 100*count/2 {
		t.Errorf("%d writes and %d events are too few to tell anything", total, events)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

const sentinel = "the-end"

// follower watches, takes a broken watch up again where it was, and lists anew
// when that is too long ago.
type follower struct {
	t                        *testing.T
	m                        *mortal
	api                      typedcorev1.ConfigMapInterface
	id                       int
	version                  string
	seen                     map[string]int // the last counter of each object
	live                     map[string]bool
	events, relists, resumed int
	done                     bool
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil && !f.done {
		start := f.m.nextStart()
		err := f.follow(ctx)
		if err == nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			continue
		}
		select { // the server is away
		case <-start:
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond): // it was back before we asked
		}
	}
}

func (f *follower) follow(ctx context.Context) error {
	if f.version == "" {
		if err := f.list(ctx); err != nil {
			return err
		}
	}
	w, err := f.api.Watch(ctx, metav1.ListOptions{ResourceVersion: f.version, AllowWatchBookmarks: true})
	if err != nil {
		if apierrors.IsResourceExpired(err) {
			f.version = ""
		}
		return err
	}
	defer w.Stop()
	f.resumed++
	for ev := range w.ResultChan() {
		if ev.Type == watch.Error {
			err := apierrors.FromObject(ev.Object)
			if apierrors.IsResourceExpired(err) {
				f.version = ""
			}
			return err
		}
		if f.take(ev.Type, ev.Object.(*corev1.ConfigMap)); f.done {
			return nil
		}
	}
	return errors.New("watch ended")
}

func (f *follower) list(ctx context.Context) error {
	list, err := f.api.List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	f.relists++
	f.version, f.live = list.ResourceVersion, map[string]bool{}
	for _, cm := range list.Items {
		n, _ := strconv.Atoi(cm.Data["n"])
		if n < f.seen[cm.Name] {
			f.t.Errorf("watcher %d: list shows %s at %d, it was at %d", f.id, cm.Name, n, f.seen[cm.Name])
		}
		f.seen[cm.Name], f.live[cm.Name] = n, true
		f.done = f.done || cm.Name == sentinel
	}
	for name := range f.seen {
		if !f.live[name] {
			f.seen[name] = -1 // deleted meanwhile: any later counter is right
		}
	}
	return nil
}

// take checks one event against what came before.
func (f *follower) take(kind watch.EventType, cm *corev1.ConfigMap) {
	before, _ := strconv.Atoi(f.version)
	now, _ := strconv.Atoi(cm.ResourceVersion)
	if now < before || (now == before && kind != watch.Bookmark) {
		f.t.Errorf("watcher %d: %s %s at %d comes after %d", f.id, kind, cm.Name, now, before)
	}
	f.version = cm.ResourceVersion
	if kind == watch.Bookmark {
		return
	}
	f.events++
	n, _ := strconv.Atoi(cm.Data["n"])
	last, known := f.seen[cm.Name]
	switch kind {
	case watch.Added:
		if f.live[cm.Name] || (known && last >= 0 && n != last+1) {
			f.t.Errorf("watcher %d: ADDED %s at %d, it was at %d, live %v", f.id, cm.Name, n, last, f.live[cm.Name])
		}
	case watch.Modified:
		if !f.live[cm.Name] || n != last+1 {
			f.t.Errorf("watcher %d: MODIFIED %s at %d, it was at %d, live %v", f.id, cm.Name, n, last, f.live[cm.Name])
		}
	case watch.Deleted:
		if !f.live[cm.Name] || n != last {
			f.t.Errorf("watcher %d: DELETED %s at %d, it was at %d, live %v", f.id, cm.Name, n, last, f.live[cm.Name])
		}
	}
	f.seen[cm.Name], f.live[cm.Name] = n, kind != watch.Deleted
	f.done = cm.Name == sentinel
}

// scribbler writes objects that nobody else writes. When a request fails it
// does not know whether it was carried out, and looks.
type scribbler struct {
	t      *testing.T
	m      *mortal
	client kubernetes.Interface
	id     int
}

type draft struct {
	n    int // the counter of the last write
	live bool
}

func (s *scribbler) run(ctx context.Context, stop <-chan struct{}) int {
	drafts := make([]draft, 5)
	random := rand.New(rand.NewPCG(uint64(s.id), 7))
	written := 0
	for ctx.Err() == nil {
		select {
		case <-stop:
			return written
		default:
		}
		i := random.IntN(len(drafts))
		start := s.m.nextStart()
		if err := s.write(ctx, fmt.Sprintf("cm-%d-%d", s.id, i), &drafts[i], random.IntN(5) == 0); err == nil {
			written++
			continue
		}
		select {
		case <-start:
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
		s.look(ctx, fmt.Sprintf("cm-%d-%d", s.id, i), &drafts[i])
	}
	return written
}

func (s *scribbler) write(ctx context.Context, name string, d *draft, remove bool) error {
	api := s.client.CoreV1().ConfigMaps("default")
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"n": strconv.Itoa(d.n + 1)}}
	var err error
	switch {
	case !d.live:
		if _, err = api.Create(ctx, cm, metav1.CreateOptions{}); err == nil {
			d.n, d.live = d.n+1, true
		}
	case remove:
		if err = api.Delete(ctx, name, metav1.DeleteOptions{}); err == nil {
			d.live = false
		}
	default:
		if _, err = api.Update(ctx, cm, metav1.UpdateOptions{}); err == nil {
			d.n++
		}
	}
	return err
}

// look finds out what became of a write, and that nothing that was confirmed is
// lost.
func (s *scribbler) look(ctx context.Context, name string, d *draft) {
	for ctx.Err() == nil {
		cm, err := s.client.CoreV1().ConfigMaps("default").Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			d.live = false
			return
		}
		if err == nil {
			n, _ := strconv.Atoi(cm.Data["n"])
			if n < d.n || n > d.n+1 {
				s.t.Errorf("%s is at %d, %d was confirmed", name, n, d.n)
			}
			d.n, d.live = n, true
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}
