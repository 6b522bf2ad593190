package dns

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// BenchmarkQueries lets dnsperf (8 clients, 1 thread) ask as fast as it can for
// two seconds: a server of the same library which always gives one constant
// answer, and this one with 10 000 Services. What counts is the ratio.
func BenchmarkQueries(b *testing.B) {
	if _, err := exec.LookPath("dnsperf"); err != nil {
		b.Fatal("dnsperf is not installed: make bench installs it")
	}
	s := benchServer(10_000)
	ours := benchListen(b, s)
	constant := benchConstant(b)
	hits := questions(b, "hits", func(i int) string { return fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local A", i, i%100) })
	mix := questions(b, "mix", func(i int) string {
		name := fmt.Sprintf("svc-%d.ns-%d.svc.cluster.local", i, i%100)
		switch i % 4 {
		case 2:
			return name + " AAAA"
		case 3:
			return fmt.Sprintf("svc-%d.ns-%d.ns-7.svc.cluster.local A", i, i%100)
		}
		return name + " A"
	})
	for b.Loop() {
		base := dnsperf(b, constant, hits, 0)
		hit, mixed := dnsperf(b, ours, hits, 0), dnsperf(b, ours, mix, 0)
		half := dnsperf(b, ours, hits, int(hit.rate/2))
		b.ReportMetric(hit.rate, "hits/s")
		b.ReportMetric(hit.rate/base.rate, "hits÷constant")
		b.ReportMetric(mixed.rate/hit.rate, "mix÷hits")
		b.ReportMetric(half.p99*1000, "p99-ms-at-half-load")
		if hit.lost+mixed.lost+half.lost > 0 {
			b.Errorf("lost %d, %d, %d", hit.lost, mixed.lost, half.lost)
		}
	}
	b.ReportMetric(0, "ns/op")
}

// benchServer knows n Services in 100 namespaces.
func benchServer(n int) *Server {
	s := newServer(Config{Domain: "cluster.local"})
	for i := range 100 {
		s.index.setNamespace(fmt.Sprintf("ns-%d", i), true)
	}
	for i := range n {
		k := key{fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("svc-%d", i)}
		svc := &service{addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)})}, ports: []port{{"http", "tcp", 80}}}
		s.index.set(k, compute(svc, nil))
	}
	s.synced.Store(true)
	return s
}

// benchListen answers on loopback until the benchmark ends.
func benchListen(b testing.TB, s *Server) string {
	b.Helper()
	packets, listener, err := listen(b.Context(), "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	for _, conn := range packets {
		go func() { _ = s.serveUDP(b.Context(), conn) }()
	}
	go func() { _ = s.serveTCP(b.Context(), listener) }()
	return listener.Addr().String()
}

func benchConstant(b *testing.B) string {
	b.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, request *dns.Msg) {
		reply := new(dns.Msg).SetReply(request)
		reply.Answer = []dns.RR{&dns.A{Hdr: header(request.Question[0].Name, dns.TypeA), A: net.IPv4(10, 96, 0, 20)}}
		_ = w.WriteMsg(reply)
	})}
	go func() { _ = server.ActivateAndServe() }()
	b.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().String()
}

func questions(b *testing.B, name string, line func(int) string) string {
	b.Helper()
	var text bytes.Buffer
	for i := range 10_000 {
		fmt.Fprintln(&text, line(i*7919%10_000))
	}
	path := filepath.Join(b.TempDir(), name)
	if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
		b.Fatal(err)
	}
	return path
}

// figures are what dnsperf reports.
type figures struct {
	rate, p99 float64
	lost      int
}

var (
	rateLine = regexp.MustCompile(`Queries per second:\s+([\d.]+)`)
	lostLine = regexp.MustCompile(`Queries lost:\s+(\d+)`)
	timeLine = regexp.MustCompile(`(?m)^> \S+ \S+ \S+ ([\d.]+)$`)
)

func dnsperf(b *testing.B, address, file string, limit int) figures {
	b.Helper()
	host, number, _ := strings.Cut(address, ":")
	args := []string{"-s", host, "-p", number, "-d", file, "-l", "2", "-c", "8", "-T", "1"}
	if limit > 0 {
		args = append(args, "-Q", strconv.Itoa(limit), "-v")
	}
	out, err := exec.Command("dnsperf", args...).CombinedOutput()
	if err != nil {
		b.Fatalf("dnsperf: %v\n%s", err, out)
	}
	rate, err1 := strconv.ParseFloat(string(rateLine.FindSubmatch(out)[1]), 64)
	lost, err2 := strconv.Atoi(string(lostLine.FindSubmatch(out)[1]))
	if err1 != nil || err2 != nil {
		b.Fatalf("read dnsperf's report: %v %v\n%s", err1, err2, out)
	}
	return figures{rate, percentile(out, 0.99), lost}
}

// percentile reads what -v says of each answer: "> NOERROR foo A 0.000103".
func percentile(out []byte, p float64) float64 {
	var times []float64
	for _, row := range timeLine.FindAllSubmatch(out, -1) {
		if seconds, err := strconv.ParseFloat(string(row[1]), 64); err == nil {
			times = append(times, seconds)
		}
	}
	if len(times) == 0 {
		return 0
	}
	slices.Sort(times)
	return times[int(float64(len(times)-1)*p)]
}
