package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	// upstreamTimeout is how long one upstream may take before the next is
	// asked: a client's resolver waits 5 s for all of it.
	upstreamTimeout = 2 * time.Second
	// probeInterval is how often an upstream which failed is tried again.
	probeInterval = time.Second
)

// upstream is a resolver that is asked about names which are not the cluster's.
type upstream struct {
	address string // "192.0.2.53:53"
	metrics *metrics
	down    atomic.Bool // it left a question without an answer; a probe is on its way
	looping atomic.Bool // it leads back here
}

// ask sends one question, and again over TCP when the answer did not fit. An
// upstream without an answer is down until a probe gets one.
func (u *upstream) ask(ctx context.Context, question *dns.Msg) (*dns.Msg, error) {
	began := time.Now()
	answer, err := u.exchange("udp", question)
	if err == nil && answer.Truncated {
		answer, err = u.exchange("tcp", question)
	}
	if err != nil {
		if u.down.CompareAndSwap(false, true) {
			slog.Warn("upstream does not answer", "upstream", u.address, "err", err)
			go u.probe(ctx)
		}
		return nil, fmt.Errorf("ask %s: %w", u.address, err)
	}
	u.metrics.upstream.WithLabelValues("forward", u.address, dns.RcodeToString[answer.Rcode]).Observe(time.Since(began).Seconds())
	return answer, nil
}

// exchange sends a question and waits for its answer. The socket is this
// question's alone: its port is one of 28 000, which somebody who wants to slip
// in an answer has to guess together with the id, and since it is connected
// the kernel takes datagrams from the upstream's address only.
func (u *upstream) exchange(network string, question *dns.Msg) (*dns.Msg, error) {
	deadline := time.Now().Add(upstreamTimeout)
	dialer := net.Dialer{Deadline: deadline}
	raw, err := dialer.Dial(network, u.address)
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	if err := raw.SetDeadline(deadline); err != nil {
		return nil, err
	}
	question.Id = dns.Id()
	conn := &dns.Conn{Conn: raw, UDPSize: udpSize}
	if err := conn.WriteMsg(question); err != nil {
		return nil, err
	}
	for {
		answer, err := conn.ReadMsg()
		var network net.Error
		if errors.As(err, &network) || (err != nil && raw.RemoteAddr().Network() == "tcp") {
			return nil, err
		}
		if err == nil && answers(answer, question) {
			return answer, nil
		}
		slog.Debug("not the answer to our question", "upstream", u.address, "err", err)
		if raw.RemoteAddr().Network() == "tcp" {
			return nil, fmt.Errorf("answer does not fit the question %s", question.Question[0].Name)
		}
	}
}

// answers tells whether a message is the answer to a question: its id and the
// question itself must come back (RFC 5452 §9).
func answers(answer, question *dns.Msg) bool {
	if !answer.Response || answer.Id != question.Id || answer.Opcode != dns.OpcodeQuery || len(answer.Question) != 1 {
		return false
	}
	got, want := answer.Question[0], question.Question[0]
	return strings.EqualFold(got.Name, want.Name) && got.Qtype == want.Qtype && got.Qclass == want.Qclass
}

// probe asks for the root's name servers until there is any answer.
func (u *upstream) probe(ctx context.Context) {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		question := new(dns.Msg).SetQuestion(".", dns.TypeNS)
		if _, err := u.exchange("udp", question); err == nil {
			slog.Info("upstream answers again", "upstream", u.address)
			u.down.Store(false)
			return
		}
		u.metrics.failures.WithLabelValues("forward", u.address).Inc()
	}
}

// relevant drops the records of an answer which are not about the question:
// its name, and where its aliases lead, are. (RFC 5452 §6; DNAME and
// signatures stand for names above.)
func relevant(question dns.Question, records []dns.RR) []dns.RR {
	names := map[string]bool{dns.CanonicalName(question.Name): true}
	for range records { // an alias may stand behind what it leads to
		before := len(names)
		for _, rr := range records {
			if alias, ok := rr.(*dns.CNAME); ok && names[dns.CanonicalName(alias.Hdr.Name)] {
				names[dns.CanonicalName(alias.Target)] = true
			}
		}
		if len(names) == before {
			break
		}
	}
	kept := records[:0]
	for _, rr := range records {
		header := rr.Header()
		if names[dns.CanonicalName(header.Name)] || header.Rrtype == dns.TypeDNAME || header.Rrtype == dns.TypeRRSIG {
			kept = append(kept, rr)
		}
	}
	return kept
}
