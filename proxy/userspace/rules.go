package userspace

import (
	"fmt"
	"net/netip"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// plan turns a snapshot into the rules that lead packets to the portals. It is
// pure; doors are the ports of the portals that are open.
func plan(snapshot *proxy.Snapshot, nodeIP netip.Addr, doors map[portalKey]uint16) *iptables.Ruleset {
	p := &planner{node: nodeIP, doors: doors, filter: iptables.NewTable("filter"), nat: iptables.NewTable("nat")}
	p.filter.Declare(canaryChain, rejectChain)
	p.nat.Declare(canaryChain, portalsContainer, portalsHost, nodePortContainer, nodePortHost)
	for i := range snapshot.Ports {
		p.port(&snapshot.Ports[i])
	}
	return &iptables.Ruleset{Tables: []*iptables.Table{p.filter, p.nat}}
}

type planner struct {
	node   netip.Addr
	doors  map[portalKey]uint16
	filter *iptables.Table
	nat    *iptables.Table
}

// port leads every address of a Service port to its portal, or refuses it when
// nobody is behind it.
func (p *planner) port(port *proxy.Port) {
	p.address(port, port.ClusterIP, false)
	for _, ip := range append(append([]netip.Addr{}, port.ExternalIPs...), port.LoadBalancerIPs...) {
		p.address(port, ip, true)
	}
	if port.NodePort == 0 {
		return
	}
	match := fmt.Sprintf("-p %s %s -m %s --dport %d", port.LowerProtocol(), comment(port), port.LowerProtocol(), port.NodePort)
	if door, ok := p.doors[portalKey{port.Name, true}]; ok {
		p.nat.Add(nodePortContainer, match, fmt.Sprintf("-j REDIRECT --to-ports %d", door))
		p.nat.Add(nodePortHost, match, fmt.Sprintf("-j DNAT --to-destination %s:%d", p.node, door))
		return
	}
	p.filter.Add(rejectChain, match, "-m addrtype --dst-type LOCAL -j REJECT --reject-with icmp-port-unreachable")
}

func (p *planner) address(port *proxy.Port, ip netip.Addr, external bool) {
	match := fmt.Sprintf("-d %s/32 -p %s %s -m %s --dport %d", ip, port.LowerProtocol(), comment(port), port.LowerProtocol(), port.Port)
	if door, ok := p.doors[portalKey{port.Name, external}]; ok {
		p.nat.Add(portalsContainer, match, fmt.Sprintf("-j REDIRECT --to-ports %d", door))
		p.nat.Add(portalsHost, match, fmt.Sprintf("-j DNAT --to-destination %s:%d", p.node, door))
		return
	}
	p.filter.Add(rejectChain, match, "-j REJECT --reject-with icmp-port-unreachable")
}

func comment(port *proxy.Port) string { return `-m comment --comment "` + port.Name.String() + `"` }

// jumps lead from the kernel's chains to ours.
func jumps() []iptables.Jump {
	var list []iptables.Jump
	for _, j := range [][3]string{
		{"filter", "INPUT", "-j " + rejectChain},
		{"filter", "FORWARD", "-j " + rejectChain},
		{"filter", "OUTPUT", "-j " + rejectChain},
		{"nat", "PREROUTING", `-m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j ` + portalsContainer},
		{"nat", "PREROUTING", `-m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j ` + nodePortContainer},
		{"nat", "OUTPUT", `-m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j ` + portalsHost},
		{"nat", "OUTPUT", `-m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j ` + nodePortHost},
	} {
		list = append(list, iptables.Jump{Table: j[0], Chain: j[1], Rule: j[2]})
	}
	return list
}
