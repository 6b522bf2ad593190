package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"
)

// Config is what Run needs.
type Config struct {
	// Client reads the cluster.
	Client kubernetes.Interface
	// Domain is the cluster's, "cluster.local".
	Domain string
	// Address is where questions are answered, UDP and TCP: ":53".
	Address string
	// HealthAddress serves /healthz and /readyz over HTTP: ":8080".
	HealthAddress string
	// MetricsAddress serves /metrics over HTTP: ":9153"; empty for none.
	MetricsAddress string
	// ResolvConf names the upstreams for all other names; empty for none. It
	// is read again when it changes.
	ResolvConf string
	// StubDomains have upstreams of their own: "corp.example" → "192.0.2.1:53".
	StubDomains map[string][]string
	// SearchCompletion walks a pod's search path for it.
	SearchCompletion bool
	// LogQueries logs every question with its answer.
	LogQueries bool
	// Lameduck is how long Run goes on answering, unready, after ctx is done:
	// until the last node has heard that this endpoint is gone.
	Lameduck time.Duration
}

// Server answers questions.
type Server struct {
	index      *index
	forwarder  *forwarder
	completion *completion // nil: off
	metrics    *metrics
	logQueries bool
	synced     atomic.Bool // everything has been seen once
	leaving    atomic.Bool // asked to end
	composing  chan struct{}
}

// maxComposing is how many answers may be in the making at once, most of them
// waiting for an upstream. A question more is dropped: the client asks again.
const maxComposing = 1000

// udpSize is the answer size offered over EDNS0, small enough for no network
// to fragment it (DNS Flag Day 2020).
const udpSize = 1232

// Run watches the cluster and answers until ctx is done and Lameduck over. It
// listens at once, and is ready when it has seen everything once: a name must
// not be denied because it has not been heard of yet.
func Run(ctx context.Context, cfg Config) error {
	if _, err := clusterZone(cfg.Domain); err != nil {
		return err
	}
	s := newServer(cfg)
	packets, listener, err := listen(ctx, cfg.Address)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, serving := errgroup.WithContext(serving)
	for _, conn := range packets {
		group.Go(func() error { return s.serveUDP(serving, conn) })
	}
	group.Go(func() error { return s.serveTCP(serving, listener) })
	group.Go(func() error { return s.serveHealth(serving, cfg.HealthAddress) })
	if cfg.MetricsAddress != "" {
		group.Go(func() error { return s.metrics.serve(serving, cfg.MetricsAddress) })
	}
	group.Go(func() error { return s.watch(serving, cfg.Client) })
	group.Go(func() error { return s.forwarder.run(serving, cfg.ResolvConf) })
	group.Go(func() error {
		s.leave(ctx, serving, cfg.Lameduck)
		stop()
		return nil
	})
	slog.Info("answering", "address", cfg.Address, "zone", s.index.zone)
	return group.Wait()
}

// clusterZone is the cluster's domain as the name of a zone, "cluster.local.".
func clusterZone(domain string) (string, error) {
	zone := dns.CanonicalName(domain)
	if wrong := validation.IsDNS1123Subdomain(strings.TrimSuffix(zone, ".")); len(wrong) > 0 {
		return "", fmt.Errorf("cluster domain %q: %s", domain, wrong[0])
	}
	return zone, nil
}

func newServer(cfg Config) *Server {
	zone := dns.CanonicalName(cfg.Domain)
	m := newMetrics(cfg.Address)
	s := &Server{
		index:      newIndex(zone),
		forwarder:  newForwarder(cfg.StubDomains, m),
		metrics:    m,
		logQueries: cfg.LogQueries,
		composing:  make(chan struct{}, maxComposing),
	}
	if cfg.SearchCompletion {
		s.completion = newCompletion(zone, searchDomains(cfg.ResolvConf))
	}
	m.watchCache(s.forwarder.cache)
	return s
}

// leave waits for the end: it says "unready" first, and returns when nobody
// should be sending questions here any more.
func (s *Server) leave(ctx, serving context.Context, lameduck time.Duration) {
	select {
	case <-serving.Done():
		return
	case <-ctx.Done():
	}
	s.leaving.Store(true)
	slog.Info("leaving", "answering for", lameduck)
	select {
	case <-serving.Done():
	case <-time.After(lameduck):
	}
}

// quick answers a packet without waiting for anything. done is false when the
// answer must be composed; done without a reply is a packet nobody answers:
// too short to have an id, or itself an answer (two servers which answer
// answers never stop).
func (s *Server) quick(r *request, packet []byte, tcp bool) (reply []byte, done bool) {
	if len(packet) < headerSize || packet[2]&0x80 != 0 {
		return nil, true
	}
	if !s.synced.Load() || !r.read(packet) {
		return nil, false
	}
	if tcp {
		r.size = dns.MaxMsgSize
	}
	reply, ok := s.index.ready(r, s.forwarder.recursion())
	if ok && s.completion != nil && reply[3]&0x0f == dns.RcodeNameError {
		return nil, false // may be a name further down the search path
	}
	return reply, ok
}

// compose answers all other packets with the help of miekg/dns: large answers,
// aliases, addresses, names of pods and of the world outside, and nonsense.
func (s *Server) compose(packet []byte, client netip.Addr, tcp bool) []byte {
	request := new(dns.Msg)
	if err := request.Unpack(packet); err != nil {
		return formatError(packet)
	}
	packed, err := s.reply(request, client, tcp).Pack()
	if err != nil {
		slog.Error("answer cannot be packed", "question", request.Question, "err", err)
		return formatError(packet)
	}
	return packed
}

// formatError is an answer of a header alone, for a packet that is no message.
func formatError(packet []byte) []byte {
	reply := make([]byte, headerSize)
	copy(reply, packet[:4])
	reply[2] = reply[2]&0x79 | 0x80 // QR; opcode and RD as they came
	reply[3] = dns.RcodeFormatError
	if reply[2]&0x78 != 0 {
		reply[3] = dns.RcodeNotImplemented // not a query: nothing we know the format of
	}
	return reply
}

// reply makes the whole answer to a request.
func (s *Server) reply(request *dns.Msg, client netip.Addr, tcp bool) *dns.Msg {
	reply := new(dns.Msg).SetReply(request)
	reply.RecursionAvailable = s.forwarder.recursion()
	if rcode := refuse(request); rcode != dns.RcodeSuccess {
		reply.Rcode = rcode
		if len(request.Question) > 1 {
			reply.Question = nil
		}
		if request.IsEdns0() != nil {
			reply.SetEdns0(udpSize, false)
		}
		return reply
	}
	s.fill(reply, request, client)
	fit(reply, request, tcp)
	return reply
}

// refuse finds what is not for us to answer.
func refuse(request *dns.Msg) int {
	if request.Opcode != dns.OpcodeQuery {
		return dns.RcodeNotImplemented
	}
	if len(request.Question) != 1 || options(request) > 1 { // RFC 6891 §6.1.1
		return dns.RcodeFormatError
	}
	if opt := request.IsEdns0(); opt != nil && opt.Version() != 0 {
		return dns.RcodeBadVers
	}
	q := request.Question[0]
	if q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return dns.RcodeRefused
	}
	return dns.RcodeSuccess
}

func options(request *dns.Msg) int {
	n := 0
	for _, rr := range request.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			n++
		}
	}
	return n
}

// fill puts what was found into the message.
func (s *Server) fill(reply, request *dns.Msg, client netip.Addr) {
	if !s.synced.Load() {
		reply.Rcode = dns.RcodeServerFailure // ask another replica, or again
		return
	}
	question := request.Question[0]
	found := s.index.answer(question)
	if s.completion != nil && !found.exists && !found.upstream {
		found = s.complete(question, client)
	}
	switch {
	case found.upstream:
		s.forwarder.forward(reply, request)
		return
	case found.chase != "":
		found.records = append(found.records, s.forwarder.chase(question, found.chase)...)
	}
	reply.Authoritative = true
	reply.Answer, reply.Extra = found.records, found.extra
	if len(found.records) > 0 {
		return
	}
	if !found.exists {
		reply.Rcode = dns.RcodeNameError
	}
	reply.Ns = []dns.RR{s.index.soa()}
}

// fit answers EDNS0 in kind and cuts an answer to what the client can take;
// TC=1 tells it to come again over TCP (RFC 2181 §9).
func fit(reply, request *dns.Msg, tcp bool) {
	size := dns.MinMsgSize
	if opt := request.IsEdns0(); opt != nil {
		reply.SetEdns0(udpSize, opt.Do())
		size = max(size, min(int(opt.UDPSize()), udpSize))
	}
	if tcp {
		size = dns.MaxMsgSize
	}
	reply.Compress = true
	reply.Truncate(size)
}

// logQuery is the line of --log-queries.
func logQuery(proto string, client netip.AddrPort, packet, reply []byte, took time.Duration) {
	request, answer := new(dns.Msg), new(dns.Msg)
	if request.Unpack(packet) != nil || len(request.Question) == 0 || answer.Unpack(reply) != nil {
		slog.Info("query", "client", netip.AddrPortFrom(client.Addr().Unmap(), client.Port()), "proto", proto, "question", "malformed")
		return
	}
	q := request.Question[0]
	slog.Info("query", "client", netip.AddrPortFrom(client.Addr().Unmap(), client.Port()), "proto", proto, "id", request.Id,
		"question", fmt.Sprintf("%s %s", q.Name, dns.Type(q.Qtype)),
		"rcode", dns.RcodeToString[answer.Rcode], "answers", len(answer.Answer), "bytes", len(reply), "took", took)
}
