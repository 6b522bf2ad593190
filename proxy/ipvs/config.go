package ipvs

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// Config is what changes the plan besides the Services.
type Config struct {
	// Family is whose Services these are; IPv4 unless it says IPv6.
	Family corev1.IPFamily
	// NodeIP is the node's own address.
	NodeIP netip.Addr
	// LocalPods tells pods' packets, which need no masquerade.
	LocalPods proxy.LocalPods
	// MasqueradeAll masquerades everything that goes to a ClusterIP.
	MasqueradeAll bool
	// MasqueradeBit is the bit of the packet mark that means "masquerade".
	MasqueradeBit uint
	// NodePortAddresses are the ranges whose addresses on this node take node
	// ports; none: all addresses do.
	NodePortAddresses []netip.Prefix
	// Scheduler chooses a real server: rr, lc, sh, …, the suffix of the kernel
	// module ip_vs_rr.
	Scheduler string
	// ExcludeCIDRs are ranges of virtual servers that are somebody else's.
	ExcludeCIDRs []netip.Prefix
	// StrictARP lets no interface but its own answer ARP for an address, so
	// that kube-ipvs0's are not announced on the node's network.
	StrictARP bool
	// Timeouts of the kernel's connections; 0: as they are.
	TCPTimeout, TCPFinTimeout, UDPTimeout time.Duration
}

// bit is the mark as a number, mark the way rules match it: 0x4000/0x4000.
func (c Config) bit() string  { return fmt.Sprintf("%#x", 1<<c.MasqueradeBit) }
func (c Config) mark() string { return c.bit() + "/" + c.bit() }

// family is what the two IP families have each for itself, or write differently.
type family struct {
	tool     iptables.Tool
	number   uint16
	host     string // of an address as a range
	loopback string
	refusal  string // the kind of error that REJECT sends
	sets     string // how ipset calls the family
	prefix   string // of the sets' names
	halves   [2]netip.Prefix
	probe    netip.AddrPort // where a virtual server is made for a moment: no machine should have it (RFC 5737, RFC 3849)
}

var (
	ipv4 = family{
		iptables.IPv4, unix.AF_INET, "/32", "127.0.0.0/8", "icmp-port-unreachable", "inet", "KUBE-",
		[2]netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("128.0.0.0/1")},
		netip.MustParseAddrPort("198.51.100.0:20000"),
	}
	ipv6 = family{
		iptables.IPv6, unix.AF_INET6, "/128", "::1/128", "icmp6-port-unreachable", "inet6", "KUBE-6-",
		[2]netip.Prefix{netip.MustParsePrefix("::/1"), netip.MustParsePrefix("8000::/1")},
		netip.MustParseAddrPort("[2001:db8::]:20000"),
	}
)

func (c Config) family() family {
	if c.Family == corev1.IPv6Protocol {
		return ipv6
	}
	return ipv4
}

// familyOf is an address's.
func familyOf(addr netip.Addr) family {
	if addr.Is4() {
		return ipv4
	}
	return ipv6
}

// longestSet is how long a set's name may be; kube-proxy cuts the rest off, too:
// KUBE-6-LOAD-BALANCER-SOURCE-CID.
const longestSet = 31

// set is the name of a set in this family, for both are in the kernel at once:
// KUBE-CLUSTER-IP is KUBE-6-CLUSTER-IP.
func (f family) set(name string) string {
	name = f.prefix + strings.TrimPrefix(name, ipv4.prefix)
	return name[:min(len(name), longestSet)]
}
