package dns

import (
	"net/netip"
	"strconv"
	"strings"
)

// parseReverse reads an address out of a PTR question: 5.1.244.10.in-addr.arpa.
// is 10.244.1.5 (RFC 1035 §3.5), and 32 nibbles before ip6.arpa. are an IPv6
// address (RFC 3596 §2.5).
func parseReverse(name string) (netip.Addr, bool) {
	name = strings.ToLower(name)
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		return reverseIPv4(strings.Split(rest, "."))
	}
	if rest, ok := strings.CutSuffix(name, ".ip6.arpa."); ok {
		return reverseIPv6(strings.Split(rest, "."))
	}
	return netip.Addr{}, false
}

func reverseIPv4(labels []string) (netip.Addr, bool) {
	if len(labels) != 4 {
		return netip.Addr{}, false
	}
	var octets [4]byte
	for i, label := range labels {
		n, err := strconv.ParseUint(label, 10, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		octets[3-i] = byte(n)
	}
	return netip.AddrFrom4(octets), true
}

func reverseIPv6(labels []string) (netip.Addr, bool) {
	if len(labels) != 32 {
		return netip.Addr{}, false
	}
	var bytes [16]byte
	for i, label := range labels {
		n, err := strconv.ParseUint(label, 16, 4)
		if err != nil || len(label) != 1 {
			return netip.Addr{}, false
		}
		at := 31 - i // position among the nibbles, most significant first
		if at%2 == 0 {
			n <<= 4
		}
		bytes[at/2] |= byte(n)
	}
	return netip.AddrFrom16(bytes), true
}
