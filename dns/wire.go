package dns

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"

	"github.com/miekg/dns"
)

// A message (RFC 1035 §4.1): 12 bytes of header (id, flags, and how many
// questions, answers, authority and additional records follow), then these.
const (
	headerSize = 12
	// pointer is what a name is shortened to when it stands earlier in the
	// message: these two bits and its offset. 0xC00C is the question's.
	pointer     = 0xC000
	pointToName = pointer | headerSize
	// optSize is an EDNS0 OPT record without options (RFC 6891 §6.1.2).
	optSize = 11
)

// request is a question as it stands in a packet.
type request struct {
	packet []byte
	name   []byte // in lower case; points into lower
	end    int    // of the question in the packet
	qtype  uint16
	edns   bool
	flags  byte // of EDNS0: DO, to be repeated
	size   int  // of the largest answer the client takes
	lower  [256]byte
	out    [dns.MinMsgSize + udpSize]byte
}

// read takes a packet apart if it is what nearly all are: one question of
// class IN, with or without EDNS0. Everything else is for miekg/dns to read.
func (r *request) read(packet []byte) bool {
	if len(packet) < headerSize || packet[2]&^1 != 0 || packet[3]&0x0f != 0 || // a query (QR 0, opcode 0, no flag but RD)
		binary.BigEndian.Uint32(packet[4:]) != 1<<16 || packet[8] != 0 || packet[9] != 0 || packet[10] != 0 {
		return false
	}
	r.packet = packet
	n := headerSize
	for at := 0; ; { // label by label, each behind its length
		if n >= len(packet) {
			return false
		}
		length := int(packet[n])
		if length > 63 || at+1+length > 255 || n+1+length > len(packet) {
			return false
		}
		r.lower[at] = packet[n]
		for i := at + 1; i <= at+length; i++ {
			r.lower[i] = lower(packet[n+i-at])
		}
		at, n = at+1+length, n+1+length
		if length == 0 {
			r.name = r.lower[:at]
			break
		}
	}
	if n+4 > len(packet) || binary.BigEndian.Uint16(packet[n+2:]) != dns.ClassINET {
		return false
	}
	r.qtype, r.end = binary.BigEndian.Uint16(packet[n:]), n+4
	return r.readEDNS(packet[11], packet[r.end:])
}

// readEDNS reads what stands behind the question: nothing, or one OPT record.
func (r *request) readEDNS(additional byte, rest []byte) bool {
	r.edns, r.size, r.flags = false, dns.MinMsgSize, 0
	if additional == 0 {
		return len(rest) == 0
	}
	// root, type, size, extended code, version, flags, length of options
	if additional != 1 || len(rest) < optSize || rest[0] != 0 || binary.BigEndian.Uint16(rest[1:]) != dns.TypeOPT ||
		rest[6] != 0 || len(rest) != optSize+int(binary.BigEndian.Uint16(rest[9:])) {
		return false
	}
	r.edns, r.flags = true, rest[7]&0x80
	r.size = max(dns.MinMsgSize, min(udpSize, int(binary.BigEndian.Uint16(rest[3:]))))
	return true
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		b += 'a' - 'A'
	}
	return b
}

// ready is the answer to a request which the index has ready: a name with
// records, a name without records of that type (NODATA), or no name of the
// zone at all. false: the answer is to be composed. The bytes are good until
// the next call.
func (x *index) ready(r *request, recursion bool) ([]byte, bool) {
	zoneAt, inside := r.below(x.wireZone)
	if !inside || r.qtype == dns.TypeANY || dns.TypeTKEY <= r.qtype && r.qtype < dns.TypeANY {
		return nil, false
	}
	e := x.packed.lookup(r.name)
	if e == nil && !x.mayDeny(r) || e != nil && e.composed {
		return nil, false
	}
	reply := r.header(recursion)
	if e == nil {
		reply[3] |= dns.RcodeNameError
	} else if set := e.find(r.qtype); set != nil {
		if !r.fits(len(reply) + len(set.body)) {
			return nil, false
		}
		return r.finish(set.appendTo(reply)), true
	}
	reply[9] = 1
	return r.finish(x.appendSOA(reply, zoneAt)), true
}

// mayDeny: below pod.ZONE names exist which no table holds.
func (x *index) mayDeny(r *request) bool {
	_, pod := r.below(x.wirePods)
	return !pod
}

// below tells whether the name ends in zone, and where zone starts in the
// packet. It goes from label to label: "\x03xpod" ends like "pod" but is not.
func (r *request) below(zone []byte) (at int, ok bool) {
	want := len(r.name) - len(zone)
	for at < want {
		at += 1 + int(r.name[at])
	}
	return headerSize + at, at == want && bytes.Equal(r.name[at:], zone)
}

func (r *request) fits(size int) bool {
	if r.edns {
		size += optSize
	}
	return size <= r.size && size <= len(r.out)
}

// header repeats the request's id and question, as it was written: a client
// may have mixed upper and lower case to recognise its answer by (0x20).
func (r *request) header(recursion bool) []byte {
	reply := append(r.out[:0], r.packet[:r.end]...)
	reply[2] = 0x84 | r.packet[2]&0x01 // a response (QR), authoritative (AA); RD as asked
	reply[3] = r.packet[3] & 0x10      // CD as asked
	if recursion {
		reply[3] |= 0x80 // RA
	}
	clear(reply[6:headerSize])
	return reply
}

// finish adds the OPT record which answers one.
func (r *request) finish(reply []byte) []byte {
	if !r.edns {
		return reply
	}
	reply[11]++
	return append(reply, 0, 0, byte(dns.TypeOPT), udpSize>>8, udpSize&0xff, 0, 0, r.flags, 0, 0, 0)
}

// appendTo adds the records, starting at a random one: clients take the first,
// so each endpoint gets its share.
func (set *rrset) appendTo(reply []byte) []byte {
	binary.BigEndian.PutUint16(reply[6:], set.answers)
	binary.BigEndian.PutUint16(reply[10:], set.extra)
	if set.step == 0 || set.answers == 1 {
		return append(reply, set.body...)
	}
	first := rand.IntN(int(set.answers)) * int(set.step)
	return append(append(reply, set.body[first:]...), set.body[:first]...)
}

// appendSOA adds the zone's SOA to the authority section: for so long may the
// "no" be remembered (RFC 2308). The zone's name is in the question already,
// at zoneAt; the rest is laid out as index.soa has it.
func (x *index) appendSOA(reply []byte, zoneAt int) []byte {
	zone := uint16(pointer | zoneAt)
	reply = binary.BigEndian.AppendUint16(reply, zone)
	reply = append(reply, 0, byte(dns.TypeSOA), 0, dns.ClassINET, 0, 0, 0, ttl)
	reply = append(reply, 0, byte(len(soaServer)+2+len(soaMailbox)+2+20))
	reply = binary.BigEndian.AppendUint16(append(reply, soaServer...), zone)
	reply = binary.BigEndian.AppendUint16(append(reply, soaMailbox...), zone)
	for _, n := range [...]uint32{x.serial.Load(), soaRefresh, soaRetry, soaExpire, ttl} {
		reply = binary.BigEndian.AppendUint32(reply, n)
	}
	return reply
}

// The SOA's names before the zone, as labels: ns.dns and hostmaster.
const (
	soaServer  = "\x02ns\x03dns"
	soaMailbox = "\x0ahostmaster"
	soaRefresh = 7200
	soaRetry   = 1800
	soaExpire  = 86400
)
