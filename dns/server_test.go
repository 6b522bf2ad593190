package dns

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestOddPackets: what is not one well-formed question of class IN is answered,
// or not, as the RFCs say. "web" is web.default.svc.cluster.local. in hex.
func TestOddPackets(t *testing.T) {
	const name = "03776562 0764656661756c74 03737663 07636c7573746572 056c6f63616c 00"
	const opt = "00 0029 04d0 00 00 0000 0000"
	s := testServer()
	for _, tc := range []struct{ what, packet, want string }{
		{"nothing", "", ""},
		{"no whole header", "1234 0100 0001", ""},
		{"an answer", "1234 8100 0001 0000 0000 0000" + name + "0001 0001", ""},
		{"a header alone", "1234 0100 0000 0000 0000 0000", "FORMERR"},
		{"a header that promises a question", "1234 0100 0001 0000 0000 0000", "FORMERR"},
		{"two questions", "1234 0100 0002 0000 0000 0000" + name + "0001 0001" + name + "0001 0001", "FORMERR"},
		{"no end of the name", "1234 0100 0001 0000 0000 0000 0377", "FORMERR"},
		{"a label too long", "1234 0100 0001 0000 0000 0000 40" + strings.Repeat("61", 64) + "00 0001 0001", "FORMERR"},
		{"a name that points to itself", "1234 0100 0001 0000 0000 0000 c00c 0001 0001", "FORMERR"},
		{"two OPT records (RFC 6891 §6.1.1)", "1234 0100 0001 0000 0000 0002" + name + "0001 0001" + opt + opt, "FORMERR"},
		{"EDNS version 1 (RFC 6891 §6.1.3)", "1234 0100 0001 0000 0000 0001" + name + "0001 0001 00 0029 04d0 00 01 0000 0000", "BADVERS"},
		{"opcode NOTIFY", "1234 2100 0001 0000 0000 0000" + name + "0001 0001", "NOTIMP"},
		{"opcode UPDATE that cannot be read", "1234 2800 0001 0000 0000 0000 ff", "NOTIMP"},
		{"class CHAOS", "1234 0100 0001 0000 0000 0000" + name + "0010 0003", "REFUSED"},
		{"a zone transfer", "1234 0100 0001 0000 0000 0000" + name + "00fc 0001", "REFUSED"},
		{"class ANY", "1234 0100 0001 0000 0000 0000" + name + "0001 00ff", "NOERROR 1"},
		{"type ANY", "1234 0100 0001 0000 0000 0000" + name + "00ff 0001", "NOERROR 1"},
		{"a question", "1234 0100 0001 0000 0000 0000" + name + "0001 0001", "NOERROR 1"},
		{"a cookie (RFC 7873)", "1234 0100 0001 0000 0000 0001" + name + "0001 0001 00 0029 04d0 00 00 0000 000c 000a 0008 0102030405060708", "NOERROR 1"},
	} {
		packet, err := hex.DecodeString(strings.ReplaceAll(tc.packet, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		wire, done := s.quick(new(request), packet, false)
		if !done {
			wire = s.compose(packet, netip.Addr{}, false)
		}
		got := ""
		if wire != nil {
			reply := unpack(t, wire)
			if got = dns.RcodeToString[reply.Rcode]; reply.Rcode == dns.RcodeSuccess {
				got += fmt.Sprintf(" %d", len(reply.Answer))
			}
			if !reply.Response || reply.Id != 0x1234 {
				t.Errorf("%s: header %x", tc.what, wire[:headerSize])
			}
		}
		if got == "BADSIG" { // one number, two names: the other is of TSIG
			got = "BADVERS"
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.what, got, tc.want)
		}
	}
}

// TestOrderChanges: each endpoint is the first of some answers.
func TestOrderChanges(t *testing.T) {
	s := conformanceServer(t)
	first := map[string]int{}
	for range 200 {
		reply := ask(t, s, new(dns.Msg).SetQuestion("db.shop.svc.cluster.local.", dns.TypeA), false)
		first[reply.Answer[0].(*dns.A).A.String()]++
	}
	if first["10.244.1.5"] < 50 || first["10.244.2.5"] < 50 {
		t.Errorf("first of 200 answers: %v", first)
	}
}

// TestQuickAllocatesNothing: what nearly every question takes.
func TestQuickAllocatesNothing(t *testing.T) {
	s, r := testServer(), new(request)
	for _, name := range []string{"web.default.svc.cluster.local.", "nobody.default.svc.cluster.local."} {
		packet := pack(t, name)
		if n := testing.AllocsPerRun(100, func() { s.quick(r, packet, false) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// TestPipelining: questions sent at once over one TCP connection are all
// answered, those which need no upstream first (RFC 7766 §6.2.1.1), and also
// when the client has closed its side.
func TestPipelining(t *testing.T) {
	release := make(chan struct{})
	s := withUpstreams(t, fakeUpstream(t, func(w dns.ResponseWriter, request *dns.Msg) {
		<-release
		_ = w.WriteMsg(new(dns.Msg).SetReply(request))
	}))
	conn, err := net.Dial("tcp", benchListen(t, s))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var out []byte
	for _, name := range []string{"slow.example.org.", "web.default.svc.cluster.local.", "nobody.default.svc.cluster.local."} {
		packet := pack(t, name)
		out = append(binary.BigEndian.AppendUint16(out, uint16(len(packet))), packet...)
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	client := &dns.Conn{Conn: conn}
	for i, want := range []string{"web.default.svc.cluster.local.", "nobody.default.svc.cluster.local.", "slow.example.org."} {
		reply, err := client.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.Question[0].Name; got != want {
			t.Errorf("answer %d is to %s, want %s", i, got, want)
		}
		if i == 1 {
			close(release)
		}
	}
	if _, err := client.ReadMsg(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last answer: %v", err)
	}
}

// TestSearchCompletion: one question of a pod in namespace default walks its
// whole search path.
func TestSearchCompletion(t *testing.T) {
	var asked atomic.Int32
	s := withUpstreams(t, fakeUpstream(t, outside(&asked)))
	s.completion = newCompletion("cluster.local.", nil)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.244.1.9"}}}}
	podStore{s.completion}.put(pod)
	const own = ".default.svc.cluster.local."
	for _, tc := range []struct{ client, name, want string }{
		{"10.244.1.9", "web" + own, "web.default.svc.cluster.local. IN A 10.96.0.20"},
		{"10.244.1.9", "web.default" + own, "web.default" + own + " IN CNAME web.default.svc.cluster.local.; web.default.svc.cluster.local. IN A 10.96.0.20"},
		{"10.244.1.9", "web.default.svc" + own, "web.default.svc.cluster.local. IN A 10.96.0.20; web.default.svc" + own + " IN CNAME web.default.svc.cluster.local."},
		{"10.244.1.9", "www.example.org" + own, "www.example.org. IN A 192.0.2.80; www.example.org" + own + " IN CNAME www.example.org."},
		{"10.244.1.9", "nobody.example.org" + own, "NXDOMAIN"},
		{"10.244.1.9", "www.example.org.empty.svc.cluster.local.", "NXDOMAIN"}, // not its own namespace
		{"10.244.1.9", "www.example.org.svc.cluster.local.", "NXDOMAIN"},       // not the first of its path
		{"10.244.2.2", "www.example.org" + own, "NXDOMAIN"},                    // nobody we know
	} {
		packet := pack(t, tc.name)
		if _, done := s.quick(new(request), packet, false); done && tc.want != "NXDOMAIN" && !strings.HasPrefix(tc.want, tc.name) {
			t.Errorf("%s: answered too quickly", tc.name)
		}
		if got := digest(unpack(t, s.compose(packet, netip.MustParseAddr(tc.client), false))); got != tc.want {
			t.Errorf("%s asks %s: %s", tc.client, tc.name, got)
		}
	}
	podStore{s.completion}.replace(nil)
	if got := digest(unpack(t, s.compose(pack(t, "www.example.org"+own), netip.MustParseAddr("10.244.1.9"), false))); got != "NXDOMAIN" {
		t.Errorf("after the pod is gone: %s", got)
	}
}

// TestLeaving: asked to end, the server says so first, and answers on.
func TestLeaving(t *testing.T) {
	s := testServer()
	ctx, end := context.WithCancel(t.Context())
	left := make(chan struct{})
	serving, stop := context.WithCancel(t.Context())
	go func() {
		s.leave(ctx, serving, time.Hour)
		close(left)
	}()
	end()
	eventually(t, "unready", s.leaving.Load)
	if got := digest(ask(t, s, new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), false)); got == "SERVFAIL" {
		t.Error("no answers any more")
	}
	stop()
	<-left
}

// TestNotReadyYet: before everything has been seen once, nothing is denied.
func TestNotReadyYet(t *testing.T) {
	s := newServer(Config{Domain: "cluster.local"})
	if got := digest(ask(t, s, new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), false)); got != "SERVFAIL" {
		t.Errorf("got %s", got)
	}
}

// TestMetrics: names and labels are CoreDNS's.
func TestMetrics(t *testing.T) {
	s := newServer(Config{Domain: "cluster.local", Address: ":53"})
	defer s.forwarder.stop()
	s.synced.Store(true)
	client := new(dns.Client)
	address := benchListen(t, s)
	for _, name := range []string{"cluster.local.", "nobody.default.svc.cluster.local."} {
		if _, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeSOA), address); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewServer(promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	defer server.Close()
	for _, want := range []string{
		`coredns_dns_requests_total{family="1",proto="udp",server="dns://:53",type="SOA",view="",zone="."} 2`,
		`coredns_dns_responses_total{plugin="kubernetes",rcode="NXDOMAIN",server="dns://:53",view="",zone="."} 1`,
		`coredns_dns_request_duration_seconds_count{server="dns://:53",view="",zone="."} 2`,
		`coredns_cache_entries{server="dns://:53",type="denial",view="",zones="."} 0`,
		`coredns_build_info{`,
	} {
		eventually(t, want, func() bool { return strings.Contains(get(t, server.URL), want) })
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestAnswersComeFromTheAddressAsked: a machine has several, and a client
// takes an answer from the one it asked only.
func TestAnswersComeFromTheAddressAsked(t *testing.T) {
	s := testServer()
	packets, listener, err := listen(t.Context(), ":0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	for _, conn := range packets {
		go func() { _ = s.serveUDP(t.Context(), conn) }()
	}
	port := packets[0].LocalAddr().(*net.UDPAddr).Port
	client := &dns.Client{Timeout: 2 * time.Second}
	for _, address := range []string{"127.0.0.1", "127.0.0.2", "127.9.9.9"} {
		for _, name := range []string{"web.default.svc.cluster.local.", "cluster.local."} { // ready, and composed
			if _, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), net.JoinHostPort(address, fmt.Sprint(port))); err != nil {
				t.Errorf("%s asked for %s: %v", address, name, err)
			}
		}
	}
}
