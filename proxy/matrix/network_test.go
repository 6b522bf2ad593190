package matrix

import (
	"fmt"
	"strings"
	"testing"

	"github.com/podarium/podarium/internal/netns/nstest"
)

// owners names who has an address, whichever of theirs it is.
var owners = map[string]string{
	"10.244.1.1": "node-1", "192.168.56.11": "node-1",
	"10.244.2.1": "node-2", "192.168.56.12": "node-2",
	"10.244.1.2": "pod-a", "10.244.1.3": "pod-b",
	"10.244.2.2": "pod-c", "10.244.2.3": "pod-d",
	"198.51.100.7": "client", "192.168.56.1": "world",
}

// pod is where a pod lives; addresses are those in doc.go.
type pod struct{ name, node, ip, zone string }

var pods = []pod{
	{"pod-a", "node-1", "10.244.1.2", "z1"},
	{"pod-b", "node-1", "10.244.1.3", "z1"},
	{"pod-c", "node-2", "10.244.2.2", "z2"},
	{"pod-d", "node-2", "10.244.2.3", "z2"},
}

// nodes by the last byte of their address.
var nodes = map[string]int{"node-1": 11, "node-2": 12}

// balancerIP is a load balancer outside the cluster which answers itself.
const balancerIP = "203.0.113.99"

// network is the test's hosts by name.
type network map[string]*nstest.Host

func newNetwork(t *testing.T) network {
	t.Helper()
	n := network{}
	for _, name := range []string{"world", "client", "node-1", "node-2", "pod-a", "pod-b", "pod-c", "pod-d"} {
		n[name] = nstest.New(t)
	}
	n.makeWorld(t)
	for name, last := range nodes {
		n.makeNode(t, name, last)
	}
	for _, p := range pods {
		n.makePod(t, p)
	}
	return n
}

// ip runs several ip commands on a host, those about addresses in both families.
func (n network) ip(t *testing.T, host string, commands ...string) {
	t.Helper()
	for _, c := range commands {
		n[host].Run(t, append([]string{"ip"}, strings.Fields(c)...)...)
		if strings.HasPrefix(c, "link ") {
			continue
		}
		if strings.HasPrefix(c, "addr ") {
			c += " nodad" // it may be used at once
		}
		n[host].Run(t, append([]string{"ip", "-6"}, strings.Fields(ipv6.of(c))...)...)
	}
}

// cable connects eth0 of a host with a port of another.
func (n network) cable(t *testing.T, host, other, port string) {
	t.Helper()
	n.ip(t, host, fmt.Sprintf("link add eth0 type veth peer name %s netns %d", port, n[other].Pid()), "link set eth0 up")
	n.ip(t, other, "link set "+port+" up")
}

func (n network) sysctl(t *testing.T, host, name, value string) {
	t.Helper()
	n[host].Run(t, "sh", "-c", "echo "+value+" >/proc/sys/net/"+name)
}

// makeWorld is the switch between the nodes and the router before the client.
// What only a Service could want (an address of the Service range) goes to
// node-1 when it comes from the client; from a node it would go in circles.
func (n network) makeWorld(t *testing.T) {
	t.Helper()
	n.sysctl(t, "world", "ipv4/ip_forward", "1")
	n.sysctl(t, "world", "ipv6/conf/all/forwarding", "1")
	n.cable(t, "client", "world", "toclient")
	n.ip(t, "client", "addr add 198.51.100.7/24 dev eth0", "route add default via 198.51.100.1")
	n.ip(t, "world",
		"link add lan type bridge", "link set lan up",
		"addr add 192.168.56.1/24 dev lan", "addr add 198.51.100.1/24 dev toclient", "addr add "+balancerIP+"/32 dev lo",
		"route add 10.244.1.0/24 via 192.168.56.11", "route add 10.244.2.0/24 via 192.168.56.12",
		"route add unreachable 10.96.0.0/12", "route add unreachable 203.0.113.0/24",
		"route add 10.96.0.0/12 via 192.168.56.11 table 100", "route add 203.0.113.0/24 via 192.168.56.11 table 100",
		"rule add iif toclient table 100",
	)
}

func (n network) makeNode(t *testing.T, name string, last int) {
	t.Helper()
	n.sysctl(t, name, "ipv4/ip_forward", "1")
	n.sysctl(t, name, "ipv6/conf/all/forwarding", "1")
	n.sysctl(t, name, "ipv4/conf/all/send_redirects", "0")
	n.sysctl(t, name, "ipv4/conf/default/send_redirects", "0")
	n.cable(t, name, "world", name)
	n.ip(t, "world", "link set "+name+" master lan")
	number := last - 10
	n.ip(t, name,
		fmt.Sprintf("addr add 192.168.56.%d/24 dev eth0", last), "route add default via 192.168.56.1",
		fmt.Sprintf("route add 10.244.%d.0/24 via 192.168.56.%d", 3-number, 23-last),
		"link add cni0 type bridge", "link set cni0 up", fmt.Sprintf("addr add 10.244.%d.1/24 dev cni0", number),
	)
	n.sysctl(t, name, "bridge/bridge-nf-call-iptables", "1")
	n.sysctl(t, name, "bridge/bridge-nf-call-ip6tables", "1")
}

func (n network) makePod(t *testing.T, p pod) {
	t.Helper()
	n.cable(t, p.name, p.node, p.name)
	n.ip(t, p.node, "link set "+p.name+" master cni0", "link set "+p.name+" type bridge_slave hairpin on")
	gateway := p.ip[:strings.LastIndex(p.ip, ".")] + ".1"
	n.ip(t, p.name, "addr add "+p.ip+"/24 dev eth0", "route add default via "+gateway)
}
