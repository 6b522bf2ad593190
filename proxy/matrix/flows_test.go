package matrix

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/podarium/podarium/internal/netns"
)

// eachMode runs a test in every mode, on a network of its own with the proxy of
// node-1.
func eachMode(t *testing.T, test func(t *testing.T, mode string, n network, proxy *node)) {
	t.Helper()
	for mode := range strings.SplitSeq(*modes, ",") {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			n := newNetwork(t)
			test(t, mode, n, startNode(t, n["node-1"].Path(), mode, "node-1", ipv4))
		})
	}
}

func cluster(s *corev1.Service, endpoints ...discoveryv1.Endpoint) order {
	return order{Services: []*corev1.Service{s}, Slices: []*discoveryv1.EndpointSlice{slice(endpoints...)}}
}

// counter counts the connections that a pod has taken.
type counter struct {
	taken atomic.Int64
}

func (c *counter) listen(t *testing.T, n network, p pod) {
	t.Helper()
	listener, err := netns.Listen(t.Context(), n[p.name].Path(), fmt.Sprintf("%s:%d", p.ip, mainPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			c.taken.Add(1)
			conn.Close()
		}
	}()
}

// times is how often something is done; less in ipvs mode, which is tested in an
// emulated machine.
func times(n int, mode string) int {
	if mode == "ipvs" {
		return n / 10
	}
	return n
}

// TestFairness: of 30 000 connections each of three endpoints gets its third,
// give or take 2 % of all; chance alone would miss by 0.3 %.
func TestFairness(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string, n network, proxy *node) {
		t.Helper()
		connections := times(30_000, mode)
		var endpoints []discoveryv1.Endpoint
		var counters []*counter
		for _, p := range pods[1:] {
			c := &counter{}
			c.listen(t, n, p)
			counters = append(counters, c)
			endpoints = append(endpoints, endpoint(p.name))
		}
		if err := proxy.apply(cluster(service(), endpoints...)); err != nil {
			t.Fatal(err)
		}
		if err := netns.Do(n["pod-a"].Path(), func() error { return connectOften("10.96.0.20:80", connections) }); err != nil {
			t.Fatal(err)
		}
		for _, c := range counters {
			if share := float64(c.taken.Load()) / float64(connections); share < 1.0/3-0.02 || share > 1.0/3+0.02 {
				t.Errorf("%d of %d connections, which is %.4f", c.taken.Load(), connections, share)
			}
		}
	})
}

// connectOften opens and resets connections: without TIME_WAIT there are always
// free ports.
func connectOften(address string, n int) error {
	dialer := net.Dialer{Timeout: patience, FallbackDelay: -1}
	for range n {
		conn, err := dialer.Dial("tcp", address)
		if err != nil {
			return err
		}
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
			return err
		}
		// The server's end comes first, so that it has counted.
		_, _ = conn.Read(make([]byte, 1))
		conn.Close()
	}
	return nil
}

// TestAffinityEnds: a client which comes again within the timeout has its
// endpoint, however long it keeps coming; after the timeout, any. Of 21
// clients, all would get the same by chance once in a million.
func TestAffinityEnds(t *testing.T) {
	const timeout = 3 * time.Second
	eachMode(t, func(t *testing.T, _ string, n network, proxy *node) {
		t.Helper()
		for _, p := range pods[1:3] {
			serve(t, n[p.name].Path(), p.name, p.ip, mainPort)
		}
		if err := proxy.apply(cluster(service(affinity(int32(timeout.Seconds()))), endpoint("pod-b"), endpoint("pod-c"))); err != nil {
			t.Fatal(err)
		}
		const clients = 21 // odd, or a strict turn would come out the same
		for i := range clients {
			n.ip(t, "pod-a", fmt.Sprintf("addr add 10.244.1.%d/24 dev eth0", 100+i))
		}
		answers := func() []string {
			list := make([]string, clients)
			for i := range list {
				list[i], _, _ = strings.Cut(askFrom(t, n["pod-a"].Path(), fmt.Sprintf("10.244.1.%d", 100+i), "10.96.0.20:80"), " ")
			}
			return list
		}
		began, last, first := time.Now(), time.Now(), answers()
		for time.Since(began) < timeout+time.Second {
			round := time.Now()
			again := answers()
			if time.Since(last) > timeout-time.Second { // the machine was elsewhere: from the beginning
				began, first = time.Now(), again
			} else if !slices.Equal(first, again) {
				t.Fatalf("within the timeout: first %v, then %v", first, again)
			}
			last = round
		}
		<-time.After(timeout + time.Second) // nobody comes
		if again := answers(); slices.Equal(first, again) {
			t.Errorf("after the timeout all have the same endpoint: %v", again)
		}
	})
}

// askFrom is askTCP from one of a host's addresses.
func askFrom(t *testing.T, path, from, to string) string {
	t.Helper()
	var answer string
	err := netns.Do(path, func() error {
		dialer := net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", to)
		if err != nil {
			return err
		}
		defer conn.Close()
		buffer := make([]byte, 100)
		size, err := conn.Read(buffer)
		answer = string(buffer[:size])
		return err
	})
	if err != nil {
		t.Errorf("%s: %v", from, err)
	}
	return answer
}

// TestNothingIsLost: endpoints roll 200 times under load, one ends while another
// comes, and now and then the proxy is restarted, knowing nothing: no request
// fails. In userspace mode the proxy is not restarted: it is the connections.
func TestNothingIsLost(t *testing.T) {
	eachMode(t, func(t *testing.T, mode string, n network, proxy *node) {
		t.Helper()
		load := newLoad(n["pod-a"].Path(), n["node-1"].Path())
		roll := []pod{pods[1], pods[2], pods[3]}
		servers := map[string]net.Listener{}
		start := func(p pod) { servers[p.name] = startServer(t, n, p) }
		now := func(restart bool, endpoints ...discoveryv1.Endpoint) {
			o := cluster(service(), endpoints...)
			o.Restart = restart && mode != "userspace"
			if err := proxy.apply(o); err != nil {
				t.Fatal(err)
			}
		}
		start(roll[0])
		now(false, endpoint(roll[0].name))
		load.start(t)
		for i := range times(200, mode) {
			old, new := roll[i%3], roll[(i+1)%3]
			start(new)
			now(i%10 == 0, endpoint(old.name), endpoint(new.name))
			now(false, endpoint(old.name, ending), endpoint(new.name))
			load.finishOpen() // what was on its way to old has arrived
			servers[old.name].Close()
			now(i%10 == 5, endpoint(new.name))
		}
		load.stop(t)
	})
}

func startServer(t *testing.T, n network, p pod) net.Listener {
	t.Helper()
	listener, err := netns.Listen(t.Context(), n[p.name].Path(), fmt.Sprintf("%s:%d", p.ip, mainPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go serveTCP(listener, p.name)
	return listener
}

// load is clients which ask the Service all the time.
type load struct {
	paths   []string
	asked   []atomic.Int64
	done    chan struct{}
	clients sync.WaitGroup

	mu     sync.Mutex
	failed []string
}

func newLoad(paths ...string) *load {
	return &load{paths: paths, asked: make([]atomic.Int64, len(paths)), done: make(chan struct{})}
}

func (l *load) start(t *testing.T) {
	t.Helper()
	for i, path := range l.paths {
		l.clients.Go(func() {
			for {
				select {
				case <-l.done:
					return
				default:
				}
				if answer := ask(path, clusterIP, patience); !strings.Contains(answer, " saw ") {
					l.mu.Lock()
					l.failed = append(l.failed, answer)
					l.mu.Unlock()
				}
				l.asked[i].Add(1)
			}
		})
	}
}

// finishOpen waits until every request which is open now has had its answer.
func (l *load) finishOpen() {
	for i := range l.asked {
		for before := l.asked[i].Load(); l.asked[i].Load() == before; {
			<-time.After(100 * time.Microsecond)
		}
	}
}

// stop ends the load, of which no request may have failed.
func (l *load) stop(t *testing.T) {
	t.Helper()
	close(l.done)
	l.clients.Wait()
	total := int64(0)
	for i := range l.asked {
		total += l.asked[i].Load()
	}
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(l.failed), total, l.failed)
	}
	t.Logf("%d requests, %d failed", total, len(l.failed))
}
