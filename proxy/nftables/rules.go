package nftables

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/podarium/podarium/proxy"
)

// planFixed is what is there without any Service. It is pure, as planPort is:
// the same arguments give the same text, and nothing is looked up. nodePorts are
// the addresses of this node that take node ports.
func planFixed(cfg Config, nodePorts []netip.Addr) *Ruleset {
	p := newPlanner(cfg)
	p.hooks()
	p.maps(nodePorts)
	p.fixedRules()
	return p.rules
}

// planPort is what a Service port adds to that.
func planPort(port *proxy.Port, cfg Config, scale scale) *Ruleset {
	p := newPlanner(cfg)
	p.scale = scale
	p.port(port)
	return p.rules
}

// scale is how the endpoints of a Service are written down. A map within each
// rule is how kube-proxy does it, and is read best; but the kernel compares the
// name of each new map with those of all that are in the table, so that 5000 of
// them take it 2.3 s, of which the rules themselves are 0.2 s. With many
// Services there are rules only, as long as they are few for each Service.
type scale int

const (
	fewServices scale = iota
	manyServices

	manyPorts    = 1000 // of Services; from one more on there are many
	shortCascade = 16   // endpoints
)

func scaleOf(snapshot *proxy.Snapshot) scale {
	if len(snapshot.Ports) > manyPorts {
		return manyServices
	}
	return fewServices
}

func newPlanner(cfg Config) *planner {
	return &planner{cfg: cfg, family: cfg.family(), rules: newRuleset(cfg.family().table())}
}

// planner collects rules.
type planner struct {
	cfg    Config
	scale  scale
	family family
	rules  *Ruleset
}

// hooks are where packets enter: before and after routing for NAT, and around
// it for what must be refused. The firewall stands before DNAT, for behind it
// the load balancer's address is gone.
func (p *planner) hooks() {
	for _, h := range []struct{ chain, hook, rule string }{
		{"filter-prerouting-pre-dnat", "type filter hook prerouting priority -110 ;", "ct state new jump " + firewallCheckChain},
		{"filter-output-pre-dnat", "type filter hook output priority -110 ;", "ct state new jump " + firewallCheckChain},
		{"filter-input", "type filter hook input priority 0 ;", "ct state new jump " + nodePortCheckChain},
		{"filter-input", "", "ct state new jump " + serviceCheckChain},
		{"filter-forward", "type filter hook forward priority 0 ;", "ct state new jump " + serviceCheckChain},
		{"filter-forward", "", "ct state new jump " + clusterIPCheckChain},
		{"filter-output", "type filter hook output priority 0 ;", "ct state new jump " + serviceCheckChain},
		{"filter-output", "", "ct state new jump " + clusterIPCheckChain},
		{"nat-prerouting", "type nat hook prerouting priority -100 ;", "jump " + servicesChain},
		{"nat-output", "type nat hook output priority -100 ;", "jump " + servicesChain},
		{"nat-postrouting", "type nat hook postrouting priority 100 ;", "jump " + masqueradingChain},
	} {
		if h.hook != "" {
			p.rules.chain(h.chain, h.hook)
		}
		p.rules.add(h.chain, h.rule)
	}
}

func (p *planner) maps(nodePorts []netip.Addr) {
	r, addr := p.rules, "type "+p.family.addrType
	verdicts := addr + " . inet_proto . inet_service : verdict ;"
	r.set("set", clusterIPsSet, addr+` ; comment "Active ClusterIPs" ;`)
	r.set("set", hairpinSet, addr+" . "+p.family.addrType+` . inet_proto . inet_service ; comment "service hairpin connections" ;`)
	if !p.cfg.everyNodePortAddress() {
		r.set("set", nodePortIPsSet, addr+` ; comment "IPs that accept NodePort traffic" ;`)
	}
	r.set("map", noEndpointServices, verdicts+` comment "vmap to drop or reject packets to services with no endpoints" ;`)
	r.set("map", noEndpointNodePorts, nodePortVerdictsType+` comment "vmap to drop or reject packets to service nodeports with no endpoints" ;`)
	r.set("map", firewallIPsMap, verdicts+` comment "destinations that are subject to LoadBalancerSourceRanges" ;`)
	r.set("map", serviceIPsMap, verdicts+` comment "ClusterIP, ExternalIP and LoadBalancer IP traffic" ;`)
	r.set("map", serviceNodePortsMap, nodePortVerdictsType+` comment "NodePort traffic" ;`)
	for _, ip := range nodePorts {
		r.element(nodePortIPsSet, ip.String(), "")
	}
}

func (p *planner) fixedRules() {
	r, mark, ip := p.rules, p.cfg.mark(), p.family.ip
	r.add(serviceCheckChain, ip+" daddr . meta l4proto . th dport vmap @"+noEndpointServices)
	r.add(nodePortCheckChain, strings.TrimPrefix(p.toNodePorts(), "fib daddr type local ")+" meta l4proto . th dport vmap @"+noEndpointNodePorts)
	r.add(firewallCheckChain, ip+" daddr . meta l4proto . th dport vmap @"+firewallIPsMap)
	r.chain(rejectChain, `comment "helper for @no-endpoint-services / @no-endpoint-nodeports" ;`)
	r.add(rejectChain, "reject")
	r.add(clusterIPCheckChain, ip+" daddr @"+clusterIPsSet+` reject comment "Reject traffic to invalid ports of ClusterIPs"`)
	if len(p.cfg.ServiceCIDRs) > 0 {
		r.add(clusterIPCheckChain, ip+" daddr { "+join(p.cfg.ServiceCIDRs)+` } drop comment "Drop traffic to unallocated ClusterIPs"`)
	}
	switch {
	case p.cfg.MasqueradeAll:
		r.add(servicesChain, ip+" daddr @"+clusterIPsSet+" mark set mark or "+mark+` comment "masquerade all clusterIP traffic"`)
	case p.cfg.LocalPods.Known():
		r.add(servicesChain, ip+" daddr @"+clusterIPsSet+" "+p.cfg.LocalPods.NFTables(ip, false)+" mark set mark or "+mark+` comment "masquerade clusterIP traffic from outside cluster"`)
	}
	r.add(servicesChain, ip+" daddr . meta l4proto . th dport vmap @"+serviceIPsMap)
	r.add(servicesChain, p.toNodePorts()+" meta l4proto . th dport vmap @"+serviceNodePortsMap)
	r.add(masqueradingChain, "mark and "+mark+" != 0 mark set mark xor "+mark+" masquerade fully-random")
	// An endpoint that reaches itself through its Service would otherwise see
	// its own address as the client's, and answer itself.
	r.add(masqueradingChain, "ct status dnat "+ip+" saddr . "+ip+" daddr . meta l4proto . th dport @"+hairpinSet+" masquerade fully-random")
}

// toNodePorts matches what is for an address that takes node ports.
func (p *planner) toNodePorts() string {
	if p.cfg.everyNodePortAddress() {
		return "fib daddr type local " + p.family.ip + " daddr != " + p.family.loopback
	}
	return p.family.ip + " daddr @" + nodePortIPsSet
}

// port writes what one Service port adds to the maps, and its chains.
func (p *planner) port(port *proxy.Port) {
	p.rules.element(clusterIPsSet, port.ClusterIP.String(), "")
	p.address(port, port.ClusterIP, internalChain(port), len(port.Internal()))
	for _, ip := range port.ExternalIPs {
		p.external(port, ip)
	}
	for _, ip := range port.LoadBalancerIPs {
		p.external(port, ip)
		if len(port.SourceRanges) > 0 {
			p.rules.element(firewallIPsMap, p.key(port, ip), "goto "+firewallPrefix+portName(port))
		}
	}
	p.nodePort(port)
	p.externalChain(port)
	p.firewallChain(port)
	if usesCluster(port) {
		p.balance(servicePrefix+portName(port), port, port.ClusterEndpoints)
	}
	if usesLocal(port) {
		p.balance(localPrefix+portName(port), port, port.LocalEndpoints)
	}
	for _, e := range port.Reachable() {
		p.endpoint(port, e)
	}
}

// A chain is only written when there is something to choose from and a way in.
func usesCluster(port *proxy.Port) bool {
	return len(port.ClusterEndpoints) > 0 && (!port.InternalLocal || port.ExternallyAccessible())
}

func usesLocal(port *proxy.Port) bool {
	return len(port.LocalEndpoints) > 0 && (port.InternalLocal || port.ExternalLocal && port.ExternallyAccessible())
}

func internalChain(port *proxy.Port) string {
	if port.InternalLocal {
		return localPrefix + portName(port)
	}
	return servicePrefix + portName(port)
}

// key is an element of the maps by address: "10.96.28.255 . tcp . 80".
func (p *planner) key(port *proxy.Port, ip netip.Addr) string {
	return fmt.Sprintf("%s . %s . %d", ip, port.LowerProtocol(), port.Port)
}

// refusal is for an address without usable endpoints: an error at once when
// there are none at all, silence when the policy forbids those of other nodes
// (a load balancer then tries another node).
func refusal(port *proxy.Port) string {
	if port.HasEndpoints {
		return "drop"
	}
	return "goto " + rejectChain
}

// address leads an address of the port to a chain, or to the refusal.
func (p *planner) address(port *proxy.Port, ip netip.Addr, chain string, endpoints int) {
	if endpoints > 0 {
		p.rules.element(serviceIPsMap, p.key(port, ip), "goto "+chain)
		return
	}
	p.rules.commented(noEndpointServices, p.key(port, ip), port.Name.String(), refusal(port))
}

// external: pods and the node itself may use an external address even where
// outside clients are dropped, so both may be written.
func (p *planner) external(port *proxy.Port, ip netip.Addr) {
	if port.HasEndpoints {
		p.rules.element(serviceIPsMap, p.key(port, ip), "goto "+externalPrefix+portName(port))
	}
	if len(port.External()) == 0 {
		p.rules.commented(noEndpointServices, p.key(port, ip), port.Name.String(), refusal(port))
	}
}

func (p *planner) nodePort(port *proxy.Port) {
	if port.NodePort == 0 {
		return
	}
	key := fmt.Sprintf("%s . %d", port.LowerProtocol(), port.NodePort)
	if port.HasEndpoints {
		p.rules.element(serviceNodePortsMap, key, "goto "+externalPrefix+portName(port))
	}
	if len(port.External()) == 0 {
		p.rules.commented(noEndpointNodePorts, key, port.Name.String(), refusal(port))
	}
}

// externalChain is met by everything that came to an external address. With
// policy Cluster it is masqueraded, since the answer must come back this way;
// with policy Local the client keeps its address and only endpoints here are
// used, but pods and the node itself may go to all of them.
func (p *planner) externalChain(port *proxy.Port) {
	if !port.HasEndpoints || !port.ExternallyAccessible() {
		return
	}
	r, chain, cluster := p.rules, externalPrefix+portName(port), servicePrefix+portName(port)
	r.chain(chain, "")
	if !port.ExternalLocal {
		r.add(chain, "mark set mark or "+p.cfg.mark()+` comment "masquerade"`)
		if len(port.ClusterEndpoints) > 0 {
			r.add(chain, "goto "+cluster)
		}
		return
	}
	if p.cfg.LocalPods.Known() {
		r.add(chain, p.cfg.LocalPods.NFTables(p.family.ip, true)+" goto "+cluster+` comment "short-circuit pod traffic"`)
	}
	r.add(chain, "fib saddr type local mark set mark or "+p.cfg.mark()+` comment "masquerade local traffic"`)
	r.add(chain, "fib saddr type local goto "+cluster+` comment "short-circuit local traffic"`)
	if len(port.LocalEndpoints) > 0 {
		r.add(chain, "goto "+localPrefix+portName(port))
	}
}

// firewallChain drops who is not in loadBalancerSourceRanges. Where the node
// itself is, the load balancer's address may be its own, so that may too.
func (p *planner) firewallChain(port *proxy.Port) {
	if len(port.SourceRanges) == 0 || len(port.LoadBalancerIPs) == 0 {
		return
	}
	allowed := []string{}
	fromNode := false
	for _, r := range port.SourceRanges {
		allowed = append(allowed, r.String())
		fromNode = fromNode || r.Contains(p.cfg.NodeIP)
	}
	if fromNode {
		for _, ip := range port.LoadBalancerIPs {
			allowed = append(allowed, ip.String())
		}
	}
	chain := firewallPrefix + portName(port)
	p.rules.add(chain, p.family.ip+" saddr != { "+strings.Join(allowed, ", ")+" } drop")
}

// balance chooses one of the endpoints.
func (p *planner) balance(chain string, port *proxy.Port, endpoints []*proxy.Endpoint) {
	switch {
	case port.AffinityTimeout > 0:
		p.remember(chain, port, endpoints)
	case p.scale == manyServices && len(endpoints) <= shortCascade:
		p.cascade(chain, port, endpoints)
	default:
		p.dice(chain, port, endpoints)
	}
}

// dice throws once: a random number below n is looked up in a map of n
// endpoints.
func (p *planner) dice(chain string, port *proxy.Port, endpoints []*proxy.Endpoint) {
	choices := make([]string, len(endpoints))
	for i, e := range endpoints {
		choices[i] = fmt.Sprintf("%d : %s . %d", i, e.Address.Addr(), e.Address.Port())
	}
	p.rules.add(chain, fmt.Sprintf("meta l4proto %s dnat %s addr . port to numgen random mod %d map { %s }",
		port.LowerProtocol(), p.family.ip, len(endpoints), strings.Join(choices, " , ")))
}

// cascade throws once for each endpoint, as iptables mode does: of three, the
// first takes one packet of 3, the second one of 2 of the rest, the last what is
// left.
func (p *planner) cascade(chain string, port *proxy.Port, endpoints []*proxy.Endpoint) {
	for i, e := range endpoints {
		chance := ""
		if left := len(endpoints) - i; left > 1 {
			chance = fmt.Sprintf("numgen random mod %d 0 ", left)
		}
		p.rules.add(chain, fmt.Sprintf("meta l4proto %s %sdnat to %s", port.LowerProtocol(), chance, e))
	}
}

// remember is for affinity: the endpoint this client had within the timeout
// comes first, and each endpoint has a chain that remembers the client.
func (p *planner) remember(chain string, port *proxy.Port, endpoints []*proxy.Endpoint) {
	choices := make([]string, len(endpoints))
	for i, e := range endpoints {
		name := endpointName(port, e)
		p.rules.add(chain, p.family.ip+" saddr @"+affinityPrefix+name+" goto "+endpointPrefix+name)
		choices[i] = fmt.Sprintf("%d : goto %s%s", i, endpointPrefix, name)
	}
	p.rules.add(chain, fmt.Sprintf("numgen random mod %d vmap { %s }", len(endpoints), strings.Join(choices, " , ")))
}

// endpoint: one on this node may be its own client; with affinity it has a
// chain and a set of clients, each forgotten after the timeout.
func (p *planner) endpoint(port *proxy.Port, e *proxy.Endpoint) {
	proto := port.LowerProtocol()
	if e.Local {
		ip := e.Address.Addr()
		p.rules.element(hairpinSet, fmt.Sprintf("%s . %s . %s . %d", ip, ip, proto, e.Address.Port()), "")
	}
	if port.AffinityTimeout == 0 {
		return
	}
	name := endpointName(port, e)
	p.rules.set("set", affinityPrefix+name, fmt.Sprintf("type %s ; flags dynamic,timeout ; timeout %ds ;", p.family.addrType, int(port.AffinityTimeout.Seconds())))
	p.rules.add(endpointPrefix+name, "update @"+affinityPrefix+name+" { "+p.family.ip+" saddr }")
	p.rules.add(endpointPrefix+name, "meta l4proto "+proto+" dnat to "+e.String())
}

func join(prefixes []netip.Prefix) string {
	texts := make([]string, len(prefixes))
	for i, p := range prefixes {
		texts[i] = p.String()
	}
	return strings.Join(texts, ", ")
}
