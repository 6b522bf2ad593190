package api

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/podarium/podarium/internal/pki"
)

// BenchmarkAPIServer measures one API server with etcd within it, a process of
// its own, from client-go with protobuf, as the components use it. Puts into
// the same etcd are measured beside it.
func BenchmarkAPIServer(b *testing.B) {
	s := startAlone(b)
	b.Run("put/clients=1", func(b *testing.B) { s.benchRate(b, 1, 500, s.put) })
	b.Run("create/clients=1", func(b *testing.B) { s.benchRate(b, 1, 500, s.create) })
	b.Run("put/clients=16", func(b *testing.B) { s.benchRate(b, 16, 2000, s.put) })
	b.Run("create/clients=16", func(b *testing.B) { s.benchRate(b, 16, 2000, s.create) })
	b.Run("get/clients=16", func(b *testing.B) { s.benchRate(b, 16, 4000, s.get) })
	b.Run("list=1000", s.benchList)
	b.Run("create-to-watch", s.benchWatch)
	b.Run("write-to-100-watchers", s.benchFanOut)
	b.Run("memory", s.benchMemory)
}

// alone is an API server with its own etcd.
type alone struct {
	process *process
	ready   time.Duration
	idle    memory // when it has just become ready
	clients []kubernetes.Interface
	etcd    *clientv3.Client
	mu      sync.Mutex
	serial  int
	value   string // as long as a ConfigMap of create is in etcd
}

func startAlone(b *testing.B) *alone {
	b.Helper()
	c := &controlPlane{t: b, dir: b.TempDir()}
	c.ca = c.newCA("kubernetes")
	c.file("ca.crt", c.ca.CertPEM)
	signing, public, err := pki.NewSigningKey()
	if err != nil {
		b.Fatal(err)
	}
	c.file("sa.key", signing)
	c.file("sa.pub", public)
	started := time.Now()
	c.startServer(1, freePorts(b, 1)[0], "--data-dir="+c.path("etcd"))
	c.waitReady(c.urls[0])
	s := &alone{process: c.servers[0], ready: time.Since(started)}
	s.idle = resident(b, s.process.cmd.Process.Pid)
	for range 16 { // each has a certificate, and so a connection, of its own
		s.clients = append(s.clients, c.clientWith(c.urls[0], func(cfg *rest.Config) {
			cfg.ContentType, cfg.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf"
		}))
	}
	s.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(c.dir, "etcd", "etcd.sock")}, Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.etcd.Close() })
	s.value = strings.Repeat("x", 600)
	return s
}

func (s *alone) next() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	return s.serial
}

func (s *alone) put(ctx context.Context, _ int) error {
	_, err := s.etcd.Put(ctx, "/bench/"+strconv.Itoa(s.next()), s.value)
	return err
}

func (s *alone) create(ctx context.Context, client int) error {
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("cm-%06d", s.next())}, Data: map[string]string{"a": strings.Repeat("x", 200)}}
	_, err := s.clients[client].CoreV1().ConfigMaps("default").Create(ctx, cm, metav1.CreateOptions{})
	return err
}

func (s *alone) get(ctx context.Context, client int) error {
	_, err := s.clients[client].CoreV1().Namespaces().Get(ctx, "default", metav1.GetOptions{})
	return err
}

// benchRate lets clients do something count times together. What the server's
// processor time for each is, does not depend on what else the machine does.
func (s *alone) benchRate(b *testing.B, clients, count int, do func(ctx context.Context, client int) error) {
	b.Helper()
	var all []time.Duration
	var took time.Duration
	worked := processorTime(b, s.process.cmd.Process.Pid)
	for b.Loop() {
		began := time.Now()
		var group sync.WaitGroup
		each := make([][]time.Duration, clients)
		for i := range clients {
			group.Go(func() {
				for range count / clients {
					sent := time.Now()
					if err := do(b.Context(), i); err != nil {
						b.Error(err)
						return
					}
					each[i] = append(each[i], time.Since(sent))
				}
			})
		}
		group.Wait()
		took += time.Since(began)
		all = append(all, slices.Concat(each...)...)
	}
	worked = processorTime(b, s.process.cmd.Process.Pid) - worked
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(len(all))/took.Seconds(), "per-s")
	b.ReportMetric(float64(worked.Microseconds())/float64(len(all)), "server-cpu-µs")
	b.ReportMetric(milliseconds(all, 50), "p50-ms")
	b.ReportMetric(milliseconds(all, 99), "p99-ms")
}

// processorTime is what a process has used: utime and stime, which the kernel
// counts in hundredths of a second. The name before them ends with ")".
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	const utime, stime = 11, 12
	var sum time.Duration
	for _, text := range []string{fields[utime], fields[stime]} {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}

// milliseconds is a percentile.
func milliseconds(list []time.Duration, percent int) float64 {
	if len(list) == 0 {
		return 0
	}
	slices.Sort(list)
	return list[(len(list)-1)*percent/100].Seconds() * 1000
}

// benchList lists a thousand ConfigMaps of a namespace of their own.
func (s *alone) benchList(b *testing.B) {
	const namespace = "thousand"
	api := s.clients[0].CoreV1()
	_, err := api.Namespaces().Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{})
	for i := 0; err == nil && i < 1000; i++ {
		_, err = api.ConfigMaps(namespace).Create(b.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(i)}, Data: map[string]string{"a": strings.Repeat("x", 200)}}, metav1.CreateOptions{})
	}
	if err != nil {
		b.Fatal(err)
	}
	var all []time.Duration
	worked := processorTime(b, s.process.cmd.Process.Pid)
	for b.Loop() {
		for range 100 {
			sent := time.Now()
			list, err := api.ConfigMaps(namespace).List(b.Context(), metav1.ListOptions{})
			if err != nil || len(list.Items) != 1000 {
				b.Fatalf("%d, %v", len(list.Items), err)
			}
			all = append(all, time.Since(sent))
		}
	}
	worked = processorTime(b, s.process.cmd.Process.Pid) - worked
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(worked.Microseconds())/float64(len(all)), "server-cpu-µs")
	b.ReportMetric(milliseconds(all, 50), "p50-ms")
}

// benchWatch measures from sending a create until the watch tells it.
func (s *alone) benchWatch(b *testing.B) { s.benchFollowers(b, 1, 200) }

func (s *alone) benchFanOut(b *testing.B) { s.benchFollowers(b, 100, 50) }

// benchFollowers writes one ConfigMap after the other and takes the time until
// each of the watchers has it.
func (s *alone) benchFollowers(b *testing.B, watchers, writes int) {
	b.Helper()
	told := make(chan time.Duration, watchers)
	began := time.Now()
	var sent atomic.Int64
	for i := range watchers {
		w, err := s.clients[i%len(s.clients)].CoreV1().ConfigMaps("kube-public").Watch(b.Context(), metav1.ListOptions{})
		if err != nil {
			b.Fatal(err)
		}
		defer w.Stop()
		for range s.existing(b, "kube-public") {
			<-w.ResultChan()
		}
		go func() {
			for ev := range w.ResultChan() {
				if ev.Type == watch.Added {
					told <- time.Since(began) - time.Duration(sent.Load())
				}
			}
		}()
	}
	var all []time.Duration
	for b.Loop() {
		for range writes {
			cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("w-%d", s.next())}}
			sent.Store(int64(time.Since(began)))
			if _, err := s.clients[0].CoreV1().ConfigMaps("kube-public").Create(b.Context(), cm, metav1.CreateOptions{}); err != nil {
				b.Fatal(err)
			}
			for range watchers {
				all = append(all, <-told)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(milliseconds(all, 50), "p50-ms")
	b.ReportMetric(milliseconds(all, 99), "p99-ms")
}

func (s *alone) existing(b *testing.B, namespace string) []corev1.ConfigMap {
	b.Helper()
	list, err := s.clients[0].CoreV1().ConfigMaps(namespace).List(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	return list.Items
}

// benchMemory tells how long the start took, and what the process has in memory
// then and with ten thousand pods.
func (s *alone) benchMemory(b *testing.B) {
	api := s.clients[0].CoreV1()
	_, _ = api.ServiceAccounts("default").Create(b.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	have, err := api.Pods("default").List(b.Context(), metav1.ListOptions{Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	if len(have.Items) == 0 {
		benchPods(b, s, 10000)
	}
	var now memory
	for b.Loop() {
		now = resident(b, s.process.cmd.Process.Pid)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(s.ready.Seconds()*1000, "ready-ms")
	b.ReportMetric(s.idle.resident, "start-MiB")
	b.ReportMetric(s.idle.own, "start-own-MiB")
	b.ReportMetric(now.resident, "10000-pods-MiB")
	b.ReportMetric(now.own, "10000-pods-own-MiB")
}

func benchPods(b *testing.B, s *alone, count int) {
	b.Helper()
	var group sync.WaitGroup
	for i := range s.clients {
		group.Go(func() {
			for n := i; n < count; n += len(s.clients) {
				pod := &corev1.Pod{
					ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("web-%05d", n), Labels: map[string]string{"app": "web"}},
					Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "podarium", Ports: []corev1.ContainerPort{{ContainerPort: 80}}}}},
				}
				if _, err := s.clients[i].CoreV1().Pods("default").Create(b.Context(), pod, metav1.CreateOptions{}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
}

// memory is what a process has in memory, in MiB: all of it, and what is its
// own. The rest is pages of the program's file and of etcd's, which the kernel
// keeps, shares and drops as it likes.
type memory struct{ resident, own float64 }

func resident(b *testing.B, pid int) memory {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	line := func(name string) float64 {
		_, rest, _ := strings.Cut(string(data), name+":")
		n, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
		if err != nil {
			b.Fatal(err)
		}
		return n / 1024
	}
	return memory{resident: line("VmRSS"), own: line("RssAnon")}
}
