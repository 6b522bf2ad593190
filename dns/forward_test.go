package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// fakeUpstream is a DNS server on loopback, UDP and TCP on one port, which
// answers as a test says.
func fakeUpstream(t *testing.T, handler dns.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range []*dns.Server{{Listener: listener, Handler: handler}, {PacketConn: packets, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return listener.Addr().String()
}

// outside is a small world: www.example.org has an address, and nothing else.
func outside(asked *atomic.Int32) dns.HandlerFunc {
	return func(w dns.ResponseWriter, request *dns.Msg) {
		asked.Add(1)
		reply := new(dns.Msg).SetReply(request)
		if strings.EqualFold(request.Question[0].Name, "www.example.org.") {
			reply.Answer = []dns.RR{record("www.example.org. 20 IN A 192.0.2.80")}
		} else {
			reply.Rcode = dns.RcodeNameError
			reply.Ns = []dns.RR{record("example.org. 20 IN SOA ns.example.org. host.example.org. 1 2 3 4 10")}
		}
		_ = w.WriteMsg(reply)
	}
}

func record(text string) dns.RR {
	rr, err := dns.NewRR(text)
	if err != nil {
		panic(err)
	}
	return rr
}

// withUpstreams is testServer with upstreams, stopped at the test's end.
func withUpstreams(t *testing.T, addresses ...string) *Server {
	t.Helper()
	s := testServer()
	s.forwarder.setDefault(addresses)
	t.Cleanup(s.forwarder.stop)
	return s
}

func askFor(t *testing.T, s *Server, name string, rrtype uint16) *dns.Msg {
	t.Helper()
	return ask(t, s, new(dns.Msg).SetQuestion(name, rrtype), false)
}

func TestForwardedAnswersAreKept(t *testing.T) {
	var asked atomic.Int32
	s := withUpstreams(t, fakeUpstream(t, outside(&asked)))
	for _, name := range []string{"www.example.org.", "WwW.example.ORG."} {
		if got, want := digest(askFor(t, s, name, dns.TypeA)), name+" IN A 192.0.2.80"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		reply := askFor(t, s, "nobody.example.org.", dns.TypeA)
		if reply.Rcode != dns.RcodeNameError || len(reply.Ns) != 1 || reply.Authoritative || !reply.RecursionAvailable {
			t.Errorf("negative answer:\n%v", reply)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("upstream was asked %d times for 2 names", n)
	}
}

func TestKeptAnswersGrowOld(t *testing.T) {
	c, k, now := newCache(1<<20), cacheKey{name: "www.example.org."}, time.Now()
	reply := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	reply.Answer = []dns.RR{record("www.example.org. 20 IN A 192.0.2.80"), record("www.example.org. 600 IN A 192.0.2.81")}
	c.put(k, reply, now)
	for _, tc := range []struct {
		after    time.Duration
		ttl      uint32 // 0: nothing is kept
		fresh    bool
		prefetch bool
	}{
		{0, 20, true, false},
		{5 * time.Second, 15, true, false},
		{19 * time.Second, 1, true, true}, // in demand, and about to end
		{19 * time.Second, 1, true, false},
		{20 * time.Second, staleTTL, false, false},
		{time.Hour, staleTTL, false, false},
		{2 * time.Hour, 0, false, false},
	} {
		at := now.Add(tc.after)
		kept, prefetch := c.get(k, at)
		if kept == nil {
			if tc.ttl != 0 {
				t.Errorf("after %v: nothing", tc.after)
			}
			continue
		}
		ttl := kept.message(at).Answer[0].Header().Ttl
		if ttl != tc.ttl || prefetch != tc.prefetch || at.Before(kept.expires) != tc.fresh {
			t.Errorf("after %v: TTL %d, prefetch %v, expires %v", tc.after, ttl, prefetch, kept.expires.Sub(now))
		}
	}
}

// TestSpoofedAnswers: an upstream whose answers come after others which are
// not the answer to the question, and from somebody else.
func TestSpoofedAnswers(t *testing.T) {
	stranger, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	s := withUpstreams(t, fakeUpstream(t, func(w dns.ResponseWriter, request *dns.Msg) {
		wrong := func(change func(*dns.Msg)) *dns.Msg {
			m := new(dns.Msg).SetReply(request)
			m.Answer = []dns.RR{record("www.example.org. 20 IN A 203.0.113.66")}
			change(m)
			return m
		}
		packed, _ := wrong(func(*dns.Msg) {}).Pack()
		_, _ = stranger.WriteTo(packed, w.RemoteAddr())                              // right, but not from the one that was asked
		_ = w.WriteMsg(wrong(func(m *dns.Msg) { m.Id++ }))                           // another id
		_ = w.WriteMsg(wrong(func(m *dns.Msg) { m.Question[0].Name = "bank.org." })) // another name
		_ = w.WriteMsg(wrong(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeMX })) // another type
		_ = w.WriteMsg(wrong(func(m *dns.Msg) { m.Response = false }))               // not an answer
		_ = w.WriteMsg(wrong(func(m *dns.Msg) { m.Question = nil }))
		_, _ = w.Write([]byte{packed[0], packed[1], 0x80}) // not a message
		m := new(dns.Msg).SetReply(request)
		m.Answer = []dns.RR{
			record("www.example.org. 20 IN CNAME web.example.net."), record("web.example.net. 20 IN A 192.0.2.80"),
			record("bank.org. 20 IN A 203.0.113.66"), // nobody asked
		}
		_ = w.WriteMsg(m)
	}))
	want := "web.example.net. IN A 192.0.2.80; www.example.org. IN CNAME web.example.net."
	if got := digest(askFor(t, s, "www.example.org.", dns.TypeA)); got != want {
		t.Errorf("got %s", got)
	}
}

func TestTruncatedAnswersAreAskedForOverTCP(t *testing.T) {
	s := withUpstreams(t, fakeUpstream(t, func(w dns.ResponseWriter, request *dns.Msg) {
		reply := new(dns.Msg).SetReply(request)
		if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
			reply.Truncated = true
		} else {
			for i := range 100 {
				reply.Answer = append(reply.Answer, record(fmt.Sprintf("big.example.org. 20 IN A 192.0.2.%d", i)))
			}
		}
		_ = w.WriteMsg(reply)
	}))
	reply := ask(t, s, new(dns.Msg).SetQuestion("big.example.org.", dns.TypeA), true)
	if len(reply.Answer) != 100 {
		t.Errorf("%d answers", len(reply.Answer))
	}
}

func TestStubDomains(t *testing.T) {
	var asked, others atomic.Int32
	stub := fakeUpstream(t, outside(&asked))
	s := newServer(Config{Domain: "cluster.local", StubDomains: map[string][]string{"Example.org": {stub}}})
	defer s.forwarder.stop()
	s.synced.Store(true)
	s.forwarder.setDefault([]string{fakeUpstream(t, outside(&others))})
	for _, name := range []string{"www.example.org.", "example.org.", "anexample.org.", "example.net."} {
		askFor(t, s, name, dns.TypeA)
	}
	if asked.Load() != 2 || others.Load() != 2 {
		t.Errorf("the stub domain's upstream got %d, the others %d", asked.Load(), others.Load())
	}
}

// TestUpstreamGone: the next one is asked; when there is none, the old answer
// stays; when there is an answer again, the upstream is asked again.
func TestUpstreamGone(t *testing.T) {
	var asked atomic.Int32
	gone := fakeUpstream(t, func(dns.ResponseWriter, *dns.Msg) {}) // silence
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.LocalAddr().String()
	closed.Close() // nobody listens: an ICMP error comes back
	s := withUpstreams(t, refusing, fakeUpstream(t, outside(&asked)))
	if got := digest(askFor(t, s, "www.example.org.", dns.TypeA)); got != "www.example.org. IN A 192.0.2.80" {
		t.Errorf("with the first upstream gone: %s", got)
	}
	if order := s.forwarder.upstreams("."); order[0].address == refusing {
		t.Errorf("the upstream that failed is still the first")
	}
	s.forwarder.setDefault([]string{gone})
	kept := s.forwarder.cache.young[cacheKey{name: "www.example.org.", rrtype: dns.TypeA}]
	kept.expires = time.Now().Add(-time.Second)
	began := time.Now()
	reply := askFor(t, s, "www.example.org.", dns.TypeA)
	if len(reply.Answer) != 1 || reply.Answer[0].Header().Ttl != staleTTL || time.Since(began) > upstreamTimeout+time.Second {
		t.Errorf("with all upstreams gone, after %v:\n%v", time.Since(began), reply)
	}
	if got := digest(askFor(t, s, "other.example.org.", dns.TypeA)); got != "SERVFAIL" {
		t.Errorf("a name never heard of: %s", got)
	}
}

func TestUpstreamComesBack(t *testing.T) {
	var asked atomic.Int32
	var away atomic.Bool
	answer := outside(&asked)
	s := withUpstreams(t, fakeUpstream(t, func(w dns.ResponseWriter, request *dns.Msg) {
		if !away.Load() {
			answer(w, request)
		}
	}))
	u := s.forwarder.upstreams(".")[0]
	u.down.Store(true)
	go u.probe(s.forwarder.ctx)
	eventually(t, "the upstream is asked again", func() bool { return !u.down.Load() })
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(5 * time.Second); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}

// TestLoop: an upstream which is this very server is found out and not used.
func TestLoop(t *testing.T) {
	s := testServer()
	t.Cleanup(s.forwarder.stop)
	self := benchListen(t, s)
	s.forwarder.checkLoops(s.forwarder.setDefault([]string{self}))
	u := (*s.forwarder.routes.Load())[0].upstreams[0]
	eventually(t, "the loop is found", u.looping.Load)
	if got := digest(askFor(t, s, "www.example.org.", dns.TypeA)); got != "REFUSED" {
		t.Errorf("with a looping upstream: %s", got)
	}
}

func TestResolvConfIsReadAgain(t *testing.T) {
	for _, way := range []string{"written", "renamed"} {
		t.Run(way, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "resolv.conf")
			write := func(path, text string) {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write(path, "nameserver 127.0.0.91\n")
			f := newForwarder(nil, newMetrics(""))
			running := make(chan error, 1)
			go func() { running <- f.run(t.Context(), path) }()
			first := func(address string) func() bool {
				return func() bool {
					routes := *f.routes.Load()
					return len(routes) > 0 && routes[0].upstreams[0].address == address
				}
			}
			eventually(t, "the file is read", first("127.0.0.91:53"))
			if way == "written" {
				write(path, "nameserver 127.0.0.92\nnameserver ::1\n")
			} else {
				write(path+".new", "nameserver 127.0.0.92\nnameserver ::1\n")
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "the change is seen", first("127.0.0.92:53"))
			write(path, "# none\n")
			eventually(t, "nobody is left", func() bool { return !f.recursion() })
		})
	}
}

// TestRandomNamesAreBounded: whatever is asked, the cache stays small.
func TestRandomNamesAreBounded(t *testing.T) {
	s := withUpstreams(t)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, now := heap(), time.Now()
	for i := range 100_000 {
		name := fmt.Sprintf("random-%d.example.org.", i)
		reply := new(dns.Msg).SetQuestion(name, dns.TypeA)
		reply.Answer = []dns.RR{record(name + " 20 IN A 192.0.2.80")}
		s.forwarder.cache.put(cacheKey{name: name, rrtype: dns.TypeA}, reply, now)
		s.compose(pack(t, fmt.Sprintf("random-%d.default.svc.cluster.local.", i)), netip.Addr{}, false)
	}
	if grown := heap() - before; int64(grown) > 2*cacheBytes {
		t.Errorf("grown by %d MB", grown>>20)
	}
	if n := s.forwarder.cache.count(false); n == 0 || n > cacheBytes/itemOverhead {
		t.Errorf("%d entries", n)
	}
}

func pack(t testing.TB, name string) []byte {
	t.Helper()
	packet, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packet
}

// FuzzUpstream: whatever an upstream sends, the answer to the client can be
// read, and is about its question.
func FuzzUpstream(f *testing.F) {
	good := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
	good.Response = true
	good.Answer = []dns.RR{record("www.example.org. 20 IN CNAME x.example.org."), record("x.example.org. 20 IN A 192.0.2.80")}
	packed, err := good.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		question := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA)
		answer := new(dns.Msg)
		if answer.Unpack(data) != nil {
			return
		}
		question.Id = answer.Id
		if !answers(answer, question) {
			return
		}
		answer.Answer = relevant(question.Question[0], answer.Answer)
		s := testServer()
		s.forwarder.cache.put(cacheKey{name: "www.example.org.", rrtype: dns.TypeA}, answer, time.Now())
		kept, _ := s.forwarder.cache.get(cacheKey{name: "www.example.org.", rrtype: dns.TypeA}, time.Now())
		if kept == nil {
			return
		}
		reply := unpack(t, s.compose(pack(t, "www.example.org."), netip.Addr{}, false))
		if reply.Question[0].Name != "www.example.org." || !reply.Response {
			t.Errorf("%v", reply)
		}
	})
}
