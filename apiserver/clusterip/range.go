package clusterip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// The reasons why an address cannot be had, in upstream's words.
var (
	ErrOtherRange = errors.New("the provided network does not match the current range")
	ErrAllocated  = errors.New("provided IP is already allocated")
	ErrFull       = errors.New("range is full")
)

// Range is the service range.
type Range struct {
	prefix netip.Prefix
	first  uint32 // the first usable address
	size   uint32 // how many usable addresses there are
}

// NewRange takes an IPv4 range with room for at least two addresses.
func NewRange(prefix netip.Prefix) Range {
	prefix = prefix.Masked()
	all := uint64(1) << (32 - prefix.Bits())
	return Range{prefix: prefix, first: number(prefix.Addr()) + 1, size: uint32(all - 2)}
}

// First is the address of the Service kubernetes: 10.96.0.1.
func (r Range) First() netip.Addr { return address(r.first) }

// String is the range as text: "10.96.0.0/12".
func (r Range) String() string { return r.prefix.String() }

// LowBand is the number of addresses that are kept for people to choose: a
// sixteenth of the range, at least 16 and at most 256.
func (r Range) LowBand() uint32 {
	return min(max(16, (r.size+2)/16), 256, r.size)
}

// Check tells whether ip may belong to a Service at all: not the addresses of
// the network and of its broadcast.
func (r Range) Check(ip netip.Addr) error {
	if !r.prefix.Contains(ip) {
		return ErrOtherRange
	}
	if number(ip) < r.first || number(ip)-r.first >= r.size {
		return fmt.Errorf("the provided IP (%s) is not in the valid range. The range of valid IPs is %s", ip, r.prefix)
	}
	return nil
}

// Pick chooses an address that is not taken: at random in the high band, so
// that an address is not reused at once after a Service went, and two servers
// seldom choose the same; else in the low one.
func (r Range) Pick(taken func(netip.Addr) bool) (netip.Addr, error) {
	// The band ends before 10.96.1.0, so the low band holds 255 of the 256.
	low := r.LowBand() - 1
	if ip, ok := r.search(low, r.size, taken); ok {
		return ip, nil
	}
	if ip, ok := r.search(0, low, taken); ok {
		return ip, nil
	}
	return netip.Addr{}, ErrFull
}

// search looks through the offsets from..to, beginning somewhere in between.
func (r Range) search(from, to uint32, taken func(netip.Addr) bool) (netip.Addr, bool) {
	n := to - from
	if n == 0 || to < from {
		return netip.Addr{}, false
	}
	start := rand.Uint32N(n)
	for i := range n {
		ip := address(r.first + from + (start+i)%n)
		if !taken(ip) {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

func number(ip netip.Addr) uint32 {
	b := ip.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
