package dns

import (
	"log/slog"

	"github.com/miekg/dns"
)

// entry is a name that exists in the cluster, with its answers as they go onto
// the wire. A type that has no rrset here is NODATA.
type entry struct {
	rrsets []rrset
	// composed: the answer depends on more than the name (an ExternalName to
	// be followed, the zone's own records), so it is put together each time.
	composed bool
}

// rrset is what follows the question in a reply: answer and additional section.
// Its names may point back into the question (RFC 1035 §4.1.4: 0xC00C is "the
// name at offset 12"), so the bytes fit every question for this name, in
// whatever mixture of cases it was asked.
type rrset struct {
	rrtype  uint16
	answers uint16
	extra   uint16
	step    uint16 // bytes of one record if all are alike and may be rotated; else 0
	body    []byte
}

// exists is the entry of names which only have names below them.
var exists = &entry{}

// find is the rrset of one type.
func (e *entry) find(rrtype uint16) *rrset {
	for i := range e.rrsets {
		if e.rrsets[i].rrtype == rrtype {
			return &e.rrsets[i]
		}
	}
	return nil
}

// names are all names of a Service, with the types of records they have: its
// own, those of its ports, of their protocols, and of its endpoints.
func (x *index) names(k key, r *records) map[string][]uint16 {
	if !r.exists {
		return nil
	}
	base := k.name + "." + k.namespace + ".svc." + x.zone
	names := map[string][]uint16{base: {dns.TypeA, dns.TypeAAAA, dns.TypeSRV}}
	for _, port := range r.srv {
		if port.port != "" {
			names["_"+port.protocol+"."+base] = nil
			names["_"+port.port+"._"+port.protocol+"."+base] = []uint16{dns.TypeSRV}
		}
	}
	for host := range r.hosts {
		names[host+"."+base] = []uint16{dns.TypeA, dns.TypeAAAA}
	}
	return names
}

// pack asks what a client would ask about a name and keeps the answers, so
// that there is one place which knows them: answer.go.
func (x *index) pack(name string, r *records, types []uint16) *entry {
	if r.alias != "" {
		return &entry{composed: true}
	}
	if len(types) == 0 {
		return exists
	}
	q, _ := parse(name, x.zone)
	e := &entry{}
	for _, rrtype := range types {
		question := dns.Question{Name: name, Qtype: rrtype, Qclass: dns.ClassINET}
		found := x.answerRecords(question, q, r)
		if len(found.records) == 0 {
			continue
		}
		set, err := packSet(question, found)
		if err != nil { // more than 64 KB: composed each time, and truncated
			slog.Debug("answer not packed", "name", name, "err", err)
			return &entry{composed: true}
		}
		e.rrsets = append(e.rrsets, set)
	}
	return e
}

func packSet(question dns.Question, found result) (rrset, error) {
	m := dns.Msg{Question: []dns.Question{question}, Answer: found.records, Extra: found.extra, Compress: true}
	wire, err := m.Pack()
	if err != nil {
		return rrset{}, err
	}
	body := wire[headerSize+len(wireName(question.Name))+4:] // after the question
	set := rrset{rrtype: question.Qtype, answers: uint16(len(found.records)), extra: uint16(len(found.extra))}
	set.body = append(make([]byte, 0, len(body)), body...)
	if question.Qtype == dns.TypeA || question.Qtype == dns.TypeAAAA {
		set.step = uint16(len(body) / len(found.records))
	}
	return set, nil
}

// wireName is a name as labels behind their lengths, "" if it is none (a
// Service's port or host could only be so with an API server that does not
// validate).
func wireName(name string) string {
	var buf [256]byte
	n, err := dns.PackDomainName(name, buf[:], 0, nil, false)
	if err != nil {
		return ""
	}
	return string(buf[:n])
}
