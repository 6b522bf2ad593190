package ipvs

import (
	"fmt"

	"github.com/podarium/podarium/internal/iptables"
)

// chains are the rules around the virtual servers. Rules that look into an
// empty set are left out where that is all they do. closed are load balancer
// addresses which the node itself may not use.
func chains(sets contents, cfg Config, closed []portal) *iptables.Ruleset {
	c := &chainWriter{sets: sets, cfg: cfg, family: cfg.family(), nat: iptables.NewTable("nat"), filter: iptables.NewTable("filter")}
	c.nat.Declare(servicesChain, postroutingChain, nodePortChain, loadBalancerChain, markMasqChain)
	c.filter.Declare(forwardChain, nodePortChain, firewallChain, sourceRangesChain, filterChain, outFilterChain)
	c.services()
	c.nodePorts()
	c.postrouting()
	c.firewall(closed)
	c.forward()
	c.filterOwnPorts()
	return &iptables.Ruleset{Tables: []*iptables.Table{c.nat, c.filter}}
}

type chainWriter struct {
	sets        contents
	cfg         Config
	family      family
	nat, filter *iptables.Table
}

// inSet is the match of a rule that looks into a set, with its comment. fields
// say what is looked up there: "dst,dst" is destination address and port.
func (f family) inSet(name, fields string) string {
	return comment(commentOf(name)) + " " + f.match(name, fields)
}

func (f family) match(name, fields string) string {
	return "-m set --match-set " + f.set(name) + " " + fields
}

func commentOf(set string) string {
	for _, s := range sets {
		if s.name == set {
			return s.comment
		}
	}
	return ""
}

func comment(text string) string { return `-m comment --comment "` + text + `"` }

// look adds a rule for what is in a set, if anything is.
func (c *chainWriter) look(table *iptables.Table, chain, protocol, set, fields, target string) {
	if len(c.sets[set]) > 0 {
		table.Add(chain, protocol, c.family.inSet(set, fields), "-j", target)
	}
}

// fromItself matches what has a Service's address as source. Only the node sends
// such packets: the address is one of its own, and so the nearest to itself. No
// answer would ever come back to it. (kube-proxy leaves these out where the
// policy is Local, and a node without an endpoint then gets no answer.)
const fromItself = "src,dst"

// services marks what must come back through this node to be translated back.
// It ends by accepting what IPVS will take, so that no rule of somebody else in
// the nat table changes the packet before.
func (c *chainWriter) services() {
	c.nat.Add(servicesChain, "-s "+c.family.loopback+" -j RETURN")
	c.look(c.nat, servicesChain, "", loadBalancerSet, "dst,dst", loadBalancerChain)
	c.clusterIPs()
	c.look(c.nat, servicesChain, "", externalIPSet, "dst,dst", markMasqChain)
	c.look(c.nat, servicesChain, "", externalIPLocalSet, fromItself, markMasqChain)
	for _, set := range []string{externalIPSet, externalIPLocalSet} {
		// What comes from another machine, and what is for this one.
		c.look(c.nat, servicesChain, "", set, "dst,dst -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL", "ACCEPT")
		c.look(c.nat, servicesChain, "", set, "dst,dst -m addrtype --dst-type LOCAL", "ACCEPT")
	}
	c.nat.Add(servicesChain, "-m addrtype --dst-type LOCAL -j", nodePortChain)
	for _, set := range []string{clusterIPSet, loadBalancerSet} {
		if len(c.sets[set]) > 0 {
			c.nat.Add(servicesChain, c.family.match(set, "dst,dst"), "-j ACCEPT")
		}
	}
	c.look(c.nat, loadBalancerChain, "", loadBalancerLocalSet, fromItself, markMasqChain)
	c.look(c.nat, loadBalancerChain, "", loadBalancerLocalSet, "dst,dst", "RETURN")
	c.nat.Add(loadBalancerChain, "-j", markMasqChain)
	c.nat.Add(markMasqChain, "-j MARK --or-mark", c.cfg.bit())
}

// clusterIPs: who is not a pod and talks to a ClusterIP must get its answer
// through this node. That is the node itself above all; where pods' addresses
// are not known, it alone.
func (c *chainWriter) clusterIPs() {
	fields := fromItself
	switch {
	case c.cfg.MasqueradeAll:
		fields = "dst,dst"
	case c.cfg.LocalPods.Known():
		fields = "dst,dst ! " + c.cfg.LocalPods.IPTables()
	}
	c.look(c.nat, servicesChain, "", clusterIPSet, fields, markMasqChain)
}

// nodePorts: those with externalTrafficPolicy Local keep the client's address.
func (c *chainWriter) nodePorts() {
	for _, p := range []struct{ protocol, suffix, fields string }{
		{"tcp", "TCP", "dst"}, {"udp", "UDP", "dst"}, {"sctp", "SCTP-HASH", "dst,dst"},
	} {
		c.look(c.nat, nodePortChain, "-p "+p.protocol, nodePortLocalPrefix+p.suffix, p.fields, "RETURN")
		c.look(c.nat, nodePortChain, "-p "+p.protocol, nodePortPrefix+p.suffix, p.fields, markMasqChain)
	}
	c.filter.Add(nodePortChain, c.family.inSet(healthCheckSet, "dst"), "-j ACCEPT")
}

// postrouting: marked packets leave with the node's address, and without the
// mark, so that nothing downstream sees it again.
func (c *chainWriter) postrouting() {
	c.look(c.nat, postroutingChain, "", loopBackSet, "dst,dst,src", "MASQUERADE")
	c.nat.Add(postroutingChain, "-m mark ! --mark", c.cfg.mark(), "-j RETURN")
	c.nat.Add(postroutingChain, "-j MARK --xor-mark", c.cfg.bit())
	c.nat.Add(postroutingChain, comment("kubernetes service traffic requiring SNAT"), "-j MASQUERADE --random-fully")
}

// firewall drops who is not in loadBalancerSourceRanges. What the node sends
// passes no input chain before IPVS has taken it, so OUTPUT looks, and knows it
// by the virtual server it came through.
func (c *chainWriter) firewall(closed []portal) {
	c.look(c.filter, firewallChain, "", loadBalancerFWSet, "dst,dst", sourceRangesChain)
	c.look(c.filter, sourceRangesChain, "", sourceCIDRSet, "dst,dst,src", "RETURN")
	c.look(c.filter, sourceRangesChain, "", sourceIPSet, "dst,dst,src", "RETURN")
	c.filter.Add(sourceRangesChain, "-j DROP")
	for _, p := range closed {
		ip := p.address.Addr()
		c.filter.Add(outFilterChain, fmt.Sprintf("-s %s%s -m ipvs --vaddr %s --vproto %s --vport %d -j DROP", ip, c.family.host, ip, p.protocol, p.address.Port()))
	}
}

func (c *chainWriter) forward() {
	c.filter.Add(forwardChain, comment("kubernetes forwarding rules"), "-m mark --mark", c.cfg.mark(), "-j ACCEPT")
	c.filter.Add(forwardChain, comment("kubernetes forwarding conntrack rule"), "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
}

// filterOwnPorts: a Service's address is one of the node's addresses, so
// without these rules its port 22 would be the node's sshd.
func (c *chainWriter) filterOwnPorts() {
	for _, set := range []string{loadBalancerSet, clusterIPSet, externalIPSet, externalIPLocalSet} {
		c.filter.Add(filterChain, c.family.match(set, "dst,dst"), "-j RETURN")
	}
	c.filter.Add(filterChain, c.family.match(healthCheckSet, "dst"), "-j RETURN")
	c.filter.Add(filterChain, "-m conntrack --ctstate NEW", c.family.match(ipvsIPsSet, "dst"), "-j REJECT --reject-with "+c.family.refusal)
}

// jumps are the ways from the kernel's chains to ours, in the order they must
// stand at the beginning of each.
func jumps() []iptables.Jump {
	var list []iptables.Jump
	for _, j := range [][4]string{
		{"nat", "PREROUTING", "kubernetes service portals", servicesChain},
		{"nat", "OUTPUT", "kubernetes service portals", servicesChain},
		{"nat", "POSTROUTING", "kubernetes postrouting rules", postroutingChain},
		{"filter", "INPUT", "kubernetes ipvs access filter", filterChain},
		{"filter", "INPUT", "kube-proxy firewall rules", firewallChain},
		{"filter", "INPUT", "kubernetes health check rules", nodePortChain},
		{"filter", "FORWARD", "kube-proxy firewall rules", firewallChain},
		{"filter", "FORWARD", "kubernetes forwarding rules", forwardChain},
		{"filter", "OUTPUT", "kubernetes ipvs access filter", outFilterChain},
	} {
		list = append(list, iptables.Jump{Table: j[0], Chain: j[1], Rule: comment(j[2]) + " -j " + j[3]})
	}
	return list
}
