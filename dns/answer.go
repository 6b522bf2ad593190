package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// ttl of every record, in seconds: as long as a client may be wrong about a
// Service that changed. CoreDNS's default.
const ttl = 5

// specVersion is what dns-version.ZONE answers (§2.2).
const specVersion = "1.1.0"

// result is an answer before it is put into a message. Name and code follow
// RFC 2308: a name that exists without the type asked for is NODATA (no error,
// no answer, the zone's SOA), a name that does not exist is NXDOMAIN.
type result struct {
	records  []dns.RR
	extra    []dns.RR
	exists   bool
	chase    string // a CNAME's target outside of the zone, to be asked upstream
	upstream bool   // not ours at all
}

// answer looks one question up.
func (x *index) answer(question dns.Question) result {
	if addr, ok := parseReverse(question.Name); ok {
		return x.answerReverse(question, addr)
	}
	q, ours := parse(question.Name, x.zone)
	if !ours {
		return result{upstream: true}
	}
	switch q.shape {
	case shapeApex:
		return x.answerApex(question)
	case shapeVersion:
		return typed(question, dns.TypeTXT, &dns.TXT{Hdr: header(question.Name, dns.TypeTXT), Txt: []string{specVersion}})
	case shapeBranch:
		return result{exists: q.namespace == "" || x.hasNamespace(q.namespace)}
	case shapePod:
		return x.answerPod(question, q)
	case shapeNone:
		return result{}
	}
	found := x.lookup(key{q.namespace, q.service})
	if found == nil || !found.exists {
		return result{}
	}
	return x.answerRecords(question, q, found)
}

// answerRecords looks a name up among the records of its Service.
func (x *index) answerRecords(question dns.Question, q query, found *records) result {
	switch q.shape {
	case shapeService:
		return x.answerService(question, found)
	case shapeEndpoint:
		addrs, ok := found.hosts[q.host]
		return result{records: addresses(question, addrs), exists: ok}
	case shapeProtocol:
		return result{exists: slices.ContainsFunc(found.srv, func(r srv) bool { return r.port != "" && r.protocol == q.protocol })}
	default:
		return x.answerPort(question, q, found)
	}
}

// answerReverse: an address nobody in the cluster has is somebody else's to tell.
func (x *index) answerReverse(question dns.Question, addr netip.Addr) result {
	names := x.namesOf(addr)
	if len(names) == 0 {
		return result{upstream: true}
	}
	if question.Qtype != dns.TypePTR && question.Qtype != dns.TypeANY {
		return result{exists: true}
	}
	res := result{exists: true}
	for _, name := range names {
		res.records = append(res.records, &dns.PTR{Hdr: header(question.Name, dns.TypePTR), Ptr: name + "." + x.zone})
	}
	return res
}

func (x *index) answerApex(question dns.Question) result {
	switch question.Qtype {
	case dns.TypeSOA:
		return result{records: []dns.RR{x.soa()}, exists: true}
	case dns.TypeNS:
		return result{records: []dns.RR{&dns.NS{Hdr: header(question.Name, dns.TypeNS), Ns: "ns.dns." + x.zone}}, exists: true}
	}
	return result{exists: true}
}

// answerPod: 10-244-1-5.default.pod.cluster.local is 10.244.1.5, without
// asking whether there is such a pod (CoreDNS's "pods insecure", kubeadm's
// default).
func (x *index) answerPod(question dns.Question, q query) result {
	if !x.hasNamespace(q.namespace) {
		return result{}
	}
	addr, err := netip.ParseAddr(strings.ReplaceAll(q.host, "-", "."))
	if err != nil {
		addr, err = netip.ParseAddr(strings.ReplaceAll(q.host, "-", ":"))
	}
	if err != nil {
		return result{}
	}
	return result{records: addresses(question, []netip.Addr{addr}), exists: true}
}

func (x *index) answerService(question dns.Question, found *records) result {
	if found.alias != "" {
		return x.answerAlias(question, found.alias)
	}
	if question.Qtype == dns.TypeSRV {
		return x.srvRecords(question, question.Name, found, func(srv) bool { return true })
	}
	return result{records: addresses(question, found.addrs), exists: true}
}

// maxAliases is how many ExternalNames are followed one after the other.
const maxAliases = 8

// answerAlias gives the CNAME of an ExternalName Service and follows it: within
// the cluster by itself, elsewhere by asking upstream. One that leads back to
// itself ends where it began.
func (x *index) answerAlias(question dns.Question, target string) result {
	res := result{exists: true}
	seen := []string{strings.ToLower(question.Name)}
	for name := question.Name; ; {
		res.records = append(res.records, &dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: target})
		if question.Qtype == dns.TypeCNAME || slices.Contains(seen, target) || len(seen) == maxAliases {
			return res
		}
		q, ours := parse(target, x.zone)
		if !ours {
			res.chase = target
			return res
		}
		next := x.lookup(key{q.namespace, q.service})
		if q.shape != shapeService || next == nil || next.alias == "" {
			question.Name = target
			found := x.answer(question)
			res.records, res.extra = append(res.records, found.records...), found.extra
			return res
		}
		seen, name, target = append(seen, target), target, next.alias
	}
}

func (x *index) answerPort(question dns.Question, q query, found *records) result {
	match := func(r srv) bool { return r.port == q.port && r.protocol == q.protocol }
	if !slices.ContainsFunc(found.srv, match) {
		return result{}
	}
	if question.Qtype != dns.TypeSRV && question.Qtype != dns.TypeANY {
		return result{exists: true}
	}
	base := q.service + "." + q.namespace + ".svc." + x.zone
	return x.srvRecords(question, base, found, match)
}

// srvRecords gives the SRV records that match, and in the additional section
// the addresses of their targets (RFC 2782), so that one question is enough.
func (x *index) srvRecords(question dns.Question, base string, found *records, match func(srv) bool) result {
	res := result{exists: true}
	base = strings.ToLower(base)
	var hosts []string
	for _, r := range found.srv {
		if !match(r) {
			continue
		}
		target := base
		if r.host != "" {
			target = r.host + "." + base
		}
		res.records = append(res.records, &dns.SRV{Hdr: header(question.Name, dns.TypeSRV), Weight: 100, Port: r.number, Target: target})
		if slices.Contains(hosts, target) {
			continue
		}
		hosts = append(hosts, target)
		addrs := found.addrs
		if r.host != "" {
			addrs = found.hosts[r.host]
		}
		res.extra = append(res.extra, addressRecords(target, addrs)...)
	}
	return res
}

// addresses are those of the family asked for, in random order, so that
// clients which take the first one spread over all.
func addresses(question dns.Question, addrs []netip.Addr) []dns.RR {
	var rrs []dns.RR
	for _, rr := range addressRecords(question.Name, addrs) {
		if rr.Header().Rrtype == question.Qtype || question.Qtype == dns.TypeANY {
			rrs = append(rrs, rr)
		}
	}
	rand.Shuffle(len(rrs), func(i, j int) { rrs[i], rrs[j] = rrs[j], rrs[i] })
	return rrs
}

func addressRecords(name string, addrs []netip.Addr) []dns.RR {
	rrs := make([]dns.RR, 0, len(addrs))
	for _, addr := range addrs {
		if addr.Is4() {
			rrs = append(rrs, &dns.A{Hdr: header(name, dns.TypeA), A: addr.AsSlice()})
		} else {
			rrs = append(rrs, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: addr.AsSlice()})
		}
	}
	return rrs
}

func typed(question dns.Question, rrtype uint16, rr dns.RR) result {
	if question.Qtype == rrtype || question.Qtype == dns.TypeANY {
		return result{records: []dns.RR{rr}, exists: true}
	}
	return result{exists: true}
}

// soa is the zone's; its last field is how long "no" may be remembered.
func (x *index) soa() dns.RR {
	return &dns.SOA{
		Hdr:     header(x.zone, dns.TypeSOA),
		Ns:      "ns.dns." + x.zone,
		Mbox:    "hostmaster." + x.zone,
		Serial:  x.serial.Load(),
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: ttl,
	}
}

func header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}
