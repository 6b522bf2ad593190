package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/singleflight"
)

// forwarder answers names which are not the cluster's: from its cache, or by
// asking an upstream. Stub domains have upstreams of their own, all else goes
// to those of the node (dnsPolicy Default gives this pod the node's
// resolv.conf). The routes are replaced as a whole when resolv.conf changes.
type forwarder struct {
	stubs   []route
	routes  atomic.Pointer[[]route] // the longest zone first
	cache   *answerCache
	flights singleflight.Group // one question upstream, however many ask it
	metrics *metrics
	ctx     context.Context // of probes; ends with run
	stop    context.CancelFunc
	loops   loops
}

// route says whom to ask about the names of a zone.
type route struct {
	zone      string // "corp.example."; "." for all
	upstreams []*upstream
}

var errNoUpstream = errors.New("no upstream resolver")

// patience is how long a client waits before it gets an answer past its end
// instead of a newer one (RFC 8767 §5: 1.8 s).
const patience = 1800 * time.Millisecond

func newForwarder(stubs map[string][]string, m *metrics) *forwarder {
	f := &forwarder{cache: newCache(cacheBytes), metrics: m}
	f.ctx, f.stop = context.WithCancel(context.Background())
	for zone, servers := range stubs {
		f.stubs = append(f.stubs, f.route(dns.CanonicalName(zone), servers))
	}
	f.setDefault(nil)
	return f
}

func (f *forwarder) route(zone string, servers []string) route {
	r := route{zone: zone}
	for _, server := range servers {
		r.upstreams = append(r.upstreams, &upstream{address: server, metrics: f.metrics})
	}
	return r
}

// UpstreamAddress reads an upstream, an IP address with or without a port:
// "192.0.2.1" is "192.0.2.1:53". A name is refused: somebody would have to
// resolve it.
func UpstreamAddress(text string) (string, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return net.JoinHostPort(addr.String(), "53"), nil
	}
	if _, err := netip.ParseAddrPort(text); err != nil {
		return "", fmt.Errorf("upstream %q is not an IP address, with or without a port", text)
	}
	return text, nil
}

// setDefault replaces the upstreams of all names without a stub domain.
func (f *forwarder) setDefault(servers []string) []*upstream {
	routes := slices.Clone(f.stubs)
	all := f.route(".", servers)
	if len(servers) > 0 {
		routes = append(routes, all)
	}
	slices.SortStableFunc(routes, func(a, b route) int { return dns.CountLabel(b.zone) - dns.CountLabel(a.zone) })
	f.routes.Store(&routes)
	return all.upstreams
}

// recursion: is there anybody to ask?
func (f *forwarder) recursion() bool { return len(*f.routes.Load()) > 0 }

// upstreams are those for a name, in the order they are tried: first those
// which answered last time.
func (f *forwarder) upstreams(name string) []*upstream {
	for _, r := range *f.routes.Load() {
		if !dns.IsSubDomain(r.zone, name) {
			continue
		}
		var up, down []*upstream
		for _, u := range r.upstreams {
			switch {
			case u.looping.Load():
			case u.down.Load():
				down = append(down, u)
			default:
				up = append(up, u)
			}
		}
		return append(up, down...)
	}
	return nil
}

// forward answers a request from upstream.
func (f *forwarder) forward(reply, request *dns.Msg) {
	question := request.Question[0]
	if f.loops.came(question.Name) {
		reply.Rcode = dns.RcodeNameError
		return
	}
	opt := request.IsEdns0()
	answer, err := f.resolve(question, opt != nil && opt.Do(), request.CheckingDisabled)
	if errors.Is(err, errNoUpstream) {
		reply.Rcode = dns.RcodeRefused
		return
	}
	if err != nil {
		slog.Debug("no answer from upstream", "question", question.Name, "err", err)
		reply.Rcode = dns.RcodeServerFailure
		return
	}
	reply.Rcode, reply.AuthenticatedData = answer.Rcode, answer.AuthenticatedData
	reply.Answer, reply.Ns = answer.Answer, answer.Ns
	for _, rr := range reply.Answer {
		if strings.EqualFold(rr.Header().Name, question.Name) {
			rr.Header().Name = question.Name // in the client's case
		}
	}
	for _, rr := range answer.Extra {
		if rr.Header().Rrtype != dns.TypeOPT { // hop by hop (RFC 6891 §6.1.1): ours is added later
			reply.Extra = append(reply.Extra, rr)
		}
	}
}

// chase resolves the target of an ExternalName. What cannot be resolved is
// left out: the client then has the CNAME alone.
func (f *forwarder) chase(question dns.Question, target string) []dns.RR {
	question.Name = target
	answer, err := f.resolve(question, false, false)
	if err != nil {
		slog.Debug("external name not resolved", "name", target, "err", err)
		return nil
	}
	return answer.Answer
}

// resolve answers a question from the cache while it is good, else from
// upstream, else from the cache although it is not good any more.
func (f *forwarder) resolve(question dns.Question, dnssec, checking bool) (*dns.Msg, error) {
	k := cacheKey{strings.ToLower(question.Name), question.Qtype, dnssec, checking}
	now := time.Now()
	kept, prefetch := f.cache.get(k, now)
	if kept != nil && now.Before(kept.expires) {
		f.metrics.hits.WithLabelValues(f.metrics.server, cacheType(kept.denial), ".", "").Inc()
		if prefetch {
			f.metrics.prefetches.Inc()
			f.ask(k)
		}
		return kept.message(now), nil
	}
	f.metrics.misses.Inc()
	var impatient <-chan time.Time
	if kept != nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		impatient = timer.C
	}
	var err error
	select {
	case r := <-f.ask(k):
		if r.Err == nil && (kept == nil || r.Val.(*dns.Msg).Rcode != dns.RcodeServerFailure) {
			return r.Val.(*dns.Msg).Copy(), nil // others have the same
		}
		err = r.Err
	case <-impatient:
	}
	if kept != nil {
		f.metrics.stale.Inc()
		return kept.message(now), nil
	}
	return nil, err
}

// ask asks upstream, once however many callers there are, and keeps the answer.
func (f *forwarder) ask(k cacheKey) <-chan singleflight.Result {
	return f.flights.DoChan(fmt.Sprint(k), func() (any, error) {
		answer, err := f.askUpstreams(k)
		if err == nil {
			if previous, _ := f.cache.get(k, time.Now()); previous == nil || answer.Rcode != dns.RcodeServerFailure {
				f.cache.put(k, answer, time.Now()) // a failure does not replace what is known
			}
		}
		return answer, err
	})
}

// askUpstreams tries one upstream after the other.
func (f *forwarder) askUpstreams(k cacheKey) (*dns.Msg, error) {
	servers := f.upstreams(k.name)
	if len(servers) == 0 {
		return nil, errNoUpstream
	}
	question := new(dns.Msg).SetQuestion(k.name, k.rrtype)
	question.CheckingDisabled = k.checking
	question.SetEdns0(udpSize, k.dnssec)
	var errs []error
	for _, u := range servers {
		answer, err := u.ask(f.ctx, question)
		if err == nil {
			answer.Answer = relevant(question.Question[0], answer.Answer)
			return answer, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
