package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/miekg/dns"
)

// upstream answers names which are not the cluster's by asking the resolvers
// of the node (dnsPolicy Default gives the pod the node's resolv.conf).
type upstream struct {
	servers []string // "192.0.2.53:53"
}

var errNoUpstream = errors.New("no upstream resolver")

// upstreamTimeout is how long one upstream may take before the next is asked.
const upstreamTimeout = 2 * time.Second

// newUpstream reads the nameserver lines of a resolv.conf. None is fine: a
// cluster without a way out answers REFUSED to what it cannot know.
func newUpstream(resolvConf string) (*upstream, error) {
	if resolvConf == "" {
		return &upstream{}, nil
	}
	config, err := dns.ClientConfigFromFile(resolvConf)
	if errors.Is(err, os.ErrNotExist) {
		return &upstream{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read upstreams from %s: %w", resolvConf, err)
	}
	u := &upstream{}
	for _, server := range config.Servers {
		u.servers = append(u.servers, net.JoinHostPort(server, config.Port))
	}
	return u, nil
}

func (u *upstream) none() bool { return len(u.servers) == 0 }

// forward passes a question on, and the answer back.
func (u *upstream) forward(reply, request *dns.Msg) {
	answer, err := u.ask(request)
	if errors.Is(err, errNoUpstream) {
		reply.Rcode = dns.RcodeRefused
		return
	}
	if err != nil {
		slog.Debug("upstream does not answer", "question", request.Question[0].Name, "err", err)
		reply.Rcode = dns.RcodeServerFailure
		return
	}
	reply.Rcode, reply.AuthenticatedData = answer.Rcode, answer.AuthenticatedData
	reply.Answer, reply.Ns = answer.Answer, answer.Ns
	for _, rr := range answer.Extra {
		if rr.Header().Rrtype != dns.TypeOPT { // hop by hop (RFC 6891 §6.1.1): ours is added later
			reply.Extra = append(reply.Extra, rr)
		}
	}
}

// chase resolves the target of an ExternalName. What cannot be resolved is
// left out: the client then has the CNAME alone.
func (u *upstream) chase(request *dns.Msg, target string) []dns.RR {
	question := new(dns.Msg).SetQuestion(target, request.Question[0].Qtype)
	answer, err := u.ask(question)
	if err != nil {
		slog.Debug("external name not resolved", "name", target, "err", err)
		return nil
	}
	return answer.Answer
}

// ask tries one upstream after the other; over UDP first, over TCP when the
// answer did not fit.
func (u *upstream) ask(request *dns.Msg) (*dns.Msg, error) {
	if u.none() {
		return nil, errNoUpstream
	}
	question := request.Copy()
	question.Id = dns.Id()
	question.Extra = nil
	question.SetEdns0(udpSize, false)
	var errs []error
	for _, server := range u.servers {
		udp := dns.Client{Timeout: upstreamTimeout, UDPSize: udpSize}
		answer, _, err := udp.Exchange(question, server)
		if err == nil && answer.Truncated {
			tcp := dns.Client{Net: "tcp", Timeout: upstreamTimeout}
			answer, _, err = tcp.Exchange(question, server)
		}
		if err == nil {
			return answer, nil
		}
		errs = append(errs, fmt.Errorf("ask %s: %w", server, err))
	}
	return nil, errors.Join(errs...)
}
