package userspace

import (
	"fmt"
	"net/netip"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// plan turns a snapshot into the rules that lead packets to the portals. It is
// pure; doors are the ports of the portals that are open.
func plan(snapshot *proxy.Snapshot, cfg Config, doors map[portalKey]uint16) *iptables.Ruleset {
	p := &planner{cfg: cfg, doors: doors, filter: iptables.NewTable("filter"), nat: iptables.NewTable("nat")}
	p.filter.Declare(canaryChain, rejectChain)
	p.nat.Declare(canaryChain, portalsContainer, portalsHost, nodePortContainer, nodePortHost)
	for _, port := range snapshot.Ports {
		p.port(port)
	}
	return &iptables.Ruleset{Tables: []*iptables.Table{p.filter, p.nat}}
}

type planner struct {
	cfg    Config
	doors  map[portalKey]uint16
	filter *iptables.Table
	nat    *iptables.Table
}

// port leads every address of a Service port to its portal, or refuses it when
// nobody is behind it.
func (p *planner) port(port *proxy.Port) {
	internal := match(port, port.ClusterIP, port.Port)
	door := p.doors[portalKey{port.Name, port.InternalLocal}]
	p.lead(portalsContainer, internal, "", door)
	p.leadHost(portalsHost, internal, door)
	p.refuse(port, internal, "", door)
	for _, ip := range port.ExternalIPs {
		p.external(port, match(port, ip, port.Port))
	}
	for _, ip := range port.LoadBalancerIPs {
		p.loadBalancer(port, match(port, ip, port.Port))
	}
	if port.NodePort != 0 {
		p.nodePort(port)
	}
}

// external leads who asks for an address of outside: with policy Local only to
// endpoints on this node, except pods and the node itself, who are inside.
func (p *planner) external(port *proxy.Port, to string) {
	cluster, door := p.doors[portalKey{port.Name, false}], p.doors[portalKey{port.Name, port.ExternalLocal}]
	p.shortCircuit(port, portalsContainer, to, cluster)
	p.lead(portalsContainer, to, "", door)
	p.leadHost(portalsHost, to, cluster)
	p.refuse(port, to, "", door)
}

// loadBalancer is external for those in loadBalancerSourceRanges. All others
// are led nowhere, and what still has the address when it is filtered is
// dropped.
func (p *planner) loadBalancer(port *proxy.Port, to string) {
	if len(port.SourceRanges) == 0 {
		p.external(port, to)
		return
	}
	cluster, door := p.doors[portalKey{port.Name, false}], p.doors[portalKey{port.Name, port.ExternalLocal}]
	for _, r := range port.SourceRanges {
		if pods, ok := podsWithin(r, p.cfg.LocalPods); ok && port.ExternalLocal {
			p.lead(portalsContainer, to, pods, cluster)
		}
		p.lead(portalsContainer, to, "-s "+r.String(), door)
		if r.Contains(p.cfg.NodeIP) {
			p.leadHost(portalsHost, to, cluster)
		}
	}
	if !port.HasEndpoints {
		p.refuse(port, to, "", 0)
		return
	}
	p.filter.Add(rejectChain, to, "-j DROP")
}

// podsWithin is the condition for pods which are in a range too: of two ranges the
// smaller one, if it lies in the other.
func podsWithin(r netip.Prefix, pods proxy.LocalPods) (string, bool) {
	if !pods.Range.IsValid() {
		return pods.IPTables() + " -s " + r.String(), pods.Known()
	}
	if r.Bits() > pods.Range.Bits() {
		return "-s " + r.String(), r.Overlaps(pods.Range)
	}
	return pods.IPTables(), r.Overlaps(pods.Range)
}

// shortCircuit lets pods pass by policy Local.
func (p *planner) shortCircuit(port *proxy.Port, chain, to string, door uint16) {
	if port.ExternalLocal && p.cfg.LocalPods.Known() {
		p.lead(chain, to, p.cfg.LocalPods.IPTables(), door)
	}
}

func (p *planner) nodePort(port *proxy.Port) {
	to := fmt.Sprintf("-p %s %s -m %s --dport %d", port.LowerProtocol(), comment(port), port.LowerProtocol(), port.NodePort)
	cluster, door := p.doors[portalKey{port.Name, false}], p.doors[portalKey{port.Name, port.ExternalLocal}]
	p.shortCircuit(port, nodePortContainer, to, cluster)
	p.lead(nodePortContainer, to, "", door)
	p.leadHost(nodePortHost, to, cluster)
	p.refuse(port, to, "-m addrtype --dst-type LOCAL", door)
}

// lead sends what comes from others through a door.
func (p *planner) lead(chain, to, from string, door uint16) {
	if door != 0 {
		p.nat.Add(chain, from, to, fmt.Sprintf("-j REDIRECT --to-ports %d", door))
	}
}

// leadHost does so for the node's own packets, which have no interface to be
// redirected on.
func (p *planner) leadHost(chain, to string, door uint16) {
	if door != 0 {
		p.nat.Add(chain, to, fmt.Sprintf("-j DNAT --to-destination %s:%d", p.cfg.NodeIP, door))
	}
}

// refuse answers where no door is: an error at once when there are no endpoints
// at all, silence when the policy forbids those of other nodes.
func (p *planner) refuse(port *proxy.Port, to, extra string, door uint16) {
	switch {
	case door != 0:
	case port.HasEndpoints && port.LowerProtocol() != "sctp":
		p.filter.Add(rejectChain, to, extra, "-j DROP")
	default:
		p.filter.Add(rejectChain, to, extra, "-j REJECT --reject-with icmp-port-unreachable")
	}
}

func match(port *proxy.Port, ip netip.Addr, number uint16) string {
	return fmt.Sprintf("-d %s/32 -p %s %s -m %s --dport %d", ip, port.LowerProtocol(), comment(port), port.LowerProtocol(), number)
}

func comment(port *proxy.Port) string { return `-m comment --comment "` + port.Name.String() + `"` }

// jumps lead from the kernel's chains to ours. Node ports are for addresses of
// the node, all of them or those given.
func jumps(nodePorts []netip.Addr) []iptables.Jump {
	list := []iptables.Jump{
		{Table: "filter", Chain: "INPUT", Rule: "-j " + rejectChain},
		{Table: "filter", Chain: "FORWARD", Rule: "-j " + rejectChain},
		{Table: "filter", Chain: "OUTPUT", Rule: "-j " + rejectChain},
	}
	matches := []string{"-m addrtype --dst-type LOCAL "}
	if nodePorts != nil {
		matches = nil
		for _, ip := range nodePorts {
			matches = append(matches, "-d "+ip.String()+"/32 ")
		}
	}
	for _, way := range []struct{ chain, portals, nodePorts string }{
		{"PREROUTING", portalsContainer, nodePortContainer},
		{"OUTPUT", portalsHost, nodePortHost},
	} {
		list = append(list, iptables.Jump{Table: "nat", Chain: way.chain, Rule: `-m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j ` + way.portals})
		for _, m := range matches {
			list = append(list, iptables.Jump{Table: "nat", Chain: way.chain, Rule: m + `-m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j ` + way.nodePorts})
		}
	}
	return list
}
