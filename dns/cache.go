package dns

import (
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// cacheBytes bounds what the answers of upstreams may take, whatever
	// clients ask for.
	cacheBytes = 8 << 20
	// An item is kept no longer than this, however long its TTL: a lab's world
	// changes quickly (kubeadm's Corefile says the same: cache 30).
	maxTTL = 30 * time.Second
	// failureTTL is how long an upstream's SERVFAIL is repeated instead of
	// asking again at once (RFC 9520 §3.2).
	failureTTL = time.Second
	// staleFor is how long after its end an answer may be given when no
	// upstream has a newer one (RFC 8767), and staleTTL what it says then.
	staleFor = time.Hour
	staleTTL = 30
	// itemOverhead is what an item takes beside its key and its message.
	itemOverhead = 200
)

// cacheKey is a question with what else an answer depends on.
type cacheKey struct {
	name     string // in lower case
	rrtype   uint16
	dnssec   bool // DO: signatures wanted
	checking bool // CD: no validation wanted
}

// item is an answer as it came, packed, and how long it may be given.
type item struct {
	packed  []byte
	denial  bool // NXDOMAIN or NODATA
	stored  time.Time
	expires time.Time
	asked   bool // again, while it was good: worth a prefetch
}

// answerCache holds answers of upstreams in two generations. New ones and those
// which are asked for go into the young one; when it is full it becomes the old
// one, and the old one, which nobody asked for all that time, is forgotten. So
// it is bounded, and needs no list of who was used last.
type answerCache struct {
	mu         sync.Mutex
	young, old map[cacheKey]*item
	bytes      int // of the young generation
	limit      int // of one generation
}

func newCache(bytes int) *answerCache {
	return &answerCache{young: map[cacheKey]*item{}, old: map[cacheKey]*item{}, limit: bytes / 2}
}

// get finds an item, perhaps an expired one. prefetch is true, once, when it is
// in demand and in the last tenth of its life.
func (c *answerCache) get(k cacheKey, now time.Time) (found *item, prefetch bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, ok := c.young[k]
	if !ok {
		if found, ok = c.old[k]; !ok {
			return nil, false
		}
		delete(c.old, k)
		c.add(k, found)
	}
	if now.After(found.expires.Add(staleFor)) {
		return nil, false
	}
	if left := found.expires.Sub(now); found.asked && left > 0 && left < found.expires.Sub(found.stored)/10 {
		found.asked = false
		return found, true
	}
	found.asked = true
	return found, false
}

// put stores an answer, if it says how long it is good.
func (c *answerCache) put(k cacheKey, answer *dns.Msg, now time.Time) {
	life, denial, ok := lifetime(answer)
	if !ok {
		return
	}
	packed, err := answer.Pack()
	if err != nil || new(dns.Msg).Unpack(packed) != nil {
		return // what an upstream sent can be read, but not written down again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, &item{packed: packed, denial: denial, stored: now, expires: now.Add(life)})
}

func (c *answerCache) add(k cacheKey, it *item) {
	if before, ok := c.young[k]; ok {
		c.bytes -= size(k, before)
	}
	c.bytes += size(k, it)
	c.young[k] = it
	if c.bytes > c.limit {
		c.young, c.old, c.bytes = map[cacheKey]*item{}, c.young, 0
	}
}

func size(k cacheKey, it *item) int { return len(k.name) + len(it.packed) + itemOverhead }

func (c *answerCache) count(denial bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, generation := range []map[cacheKey]*item{c.young, c.old} {
		for _, it := range generation {
			if it.denial == denial {
				n++
			}
		}
	}
	return n
}

// message unpacks an item, its TTLs counted down.
func (it *item) message(now time.Time) *dns.Msg {
	m := new(dns.Msg)
	if err := m.Unpack(it.packed); err != nil {
		return nil // not so: put has tried
	}
	age, stale := uint32(now.Sub(it.stored).Seconds()), !now.Before(it.expires)
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			header := rr.Header()
			switch {
			case header.Rrtype == dns.TypeOPT:
			case stale:
				header.Ttl = staleTTL
			default:
				header.Ttl = min(header.Ttl, uint32(maxTTL.Seconds()))
				header.Ttl -= min(header.Ttl, age)
			}
		}
	}
	return m
}

// lifetime is the least TTL of an answer's records; of a "no" what its SOA says
// (RFC 2308 §5). A "no" without SOA is not kept.
func lifetime(m *dns.Msg) (life time.Duration, denial, ok bool) {
	switch {
	case m.Truncated:
		return 0, false, false
	case m.Rcode == dns.RcodeServerFailure:
		return failureTTL, true, true
	case m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0:
		least := uint32(maxTTL.Seconds())
		for _, rr := range m.Answer {
			least = min(least, rr.Header().Ttl)
		}
		return time.Duration(least) * time.Second, false, least > 0
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return 0, false, false
	}
	for _, rr := range m.Ns {
		if soa, isSOA := rr.(*dns.SOA); isSOA {
			least := min(soa.Hdr.Ttl, soa.Minttl, uint32(maxTTL.Seconds()))
			return time.Duration(least) * time.Second, true, least > 0
		}
	}
	return 0, true, false
}
