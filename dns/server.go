package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
)

// Config is what a Server needs.
type Config struct {
	// Client reads the cluster.
	Client kubernetes.Interface
	// Domain is the cluster's, "cluster.local".
	Domain string
	// Address is where questions are answered, UDP and TCP: ":53".
	Address string
	// HealthAddress serves /healthz and /readyz over HTTP: ":8080".
	HealthAddress string
	// ResolvConf names the upstreams for all other names; empty for none.
	ResolvConf string
}

// Server answers questions.
type Server struct {
	zone     string // "cluster.local."
	index    *index
	upstream *upstream
	synced   atomic.Bool
	changes  sync.Mutex // one Service at a time is computed and put in
	serial   atomic.Uint32
}

// shutdownGrace is how long queries in flight may take when the server ends.
const shutdownGrace = 2 * time.Second

// udpSize is the answer size offered over EDNS0, small enough for no network
// to fragment it (DNS Flag Day 2020).
const udpSize = 1232

// Run watches the cluster and answers until ctx is done. It listens at once,
// and is ready when it has seen everything once: a name must not be denied
// because it has not been heard of yet.
func Run(ctx context.Context, cfg Config) error {
	s := &Server{zone: dns.Fqdn(cfg.Domain), index: newIndex()}
	var err error
	if s.upstream, err = newUpstream(cfg.ResolvConf); err != nil {
		return err
	}
	udp, tcp, err := listen(ctx, cfg.Address)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.serve(ctx, &dns.Server{PacketConn: udp, Handler: s, UDPSize: udpSize}) })
	group.Go(func() error { return s.serve(ctx, &dns.Server{Listener: tcp, Handler: s}) })
	group.Go(func() error { return s.serveHealth(ctx, cfg.HealthAddress) })
	group.Go(func() error { return s.watch(ctx, cfg.Client) })
	slog.Info("answering", "address", cfg.Address, "zone", s.zone)
	return group.Wait()
}

func listen(ctx context.Context, address string) (net.PacketConn, net.Listener, error) {
	var config net.ListenConfig
	udp, err := config.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("listen on UDP %s: %w", address, err)
	}
	tcp, err := config.Listen(ctx, "tcp", udp.LocalAddr().String())
	if err != nil {
		udp.Close()
		return nil, nil, fmt.Errorf("listen on TCP %s: %w", address, err)
	}
	return udp, tcp, nil
}

func (s *Server) serve(ctx context.Context, server *dns.Server) error {
	stopped := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		if err := server.ShutdownContext(grace); err != nil {
			slog.Debug("stopped with queries in flight", "err", err)
		}
	})
	defer stopped()
	if err := server.ActivateAndServe(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("serve DNS: %w", err)
	}
	return nil
}

// ServeDNS answers one message, as miekg/dns calls it, each in a goroutine.
func (s *Server) ServeDNS(w dns.ResponseWriter, request *dns.Msg) {
	answer := s.reply(request, isTCP(w))
	if err := w.WriteMsg(answer); err != nil {
		slog.Debug("answer not sent", "client", w.RemoteAddr(), "err", err)
	}
}

// reply makes the whole answer to a request.
func (s *Server) reply(request *dns.Msg, tcp bool) *dns.Msg {
	reply := new(dns.Msg).SetReply(request)
	reply.RecursionAvailable = !s.upstream.none()
	switch {
	case request.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
		return reply
	case len(request.Question) != 1:
		reply.Rcode = dns.RcodeFormatError
		return reply
	case request.Question[0].Qclass != dns.ClassINET && request.Question[0].Qclass != dns.ClassANY:
		reply.Rcode = dns.RcodeRefused
		return reply
	}
	if opt := request.IsEdns0(); opt != nil && opt.Version() != 0 {
		reply.SetEdns0(udpSize, false)
		reply.Rcode = dns.RcodeBadVers
		return reply
	}
	s.fill(reply, request)
	fit(reply, request, tcp)
	return reply
}

// fill puts what was found into the message.
func (s *Server) fill(reply, request *dns.Msg) {
	if !s.synced.Load() {
		reply.Rcode = dns.RcodeServerFailure // ask another replica, or again
		return
	}
	found := s.answer(request.Question[0])
	switch {
	case found.upstream:
		s.upstream.forward(reply, request)
		return
	case found.chase != "":
		found.records = append(found.records, s.upstream.chase(request, found.chase)...)
	}
	reply.Authoritative = true
	reply.Answer, reply.Extra = found.records, found.extra
	if len(found.records) > 0 {
		return
	}
	if !found.exists {
		reply.Rcode = dns.RcodeNameError
	}
	reply.Ns = []dns.RR{s.soa()}
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

func isTCP(w dns.ResponseWriter) bool {
	_, ok := w.RemoteAddr().(*net.TCPAddr)
	return ok
}
