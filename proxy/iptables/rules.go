package iptables

import (
	"fmt"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// planFixed is what is there without any Service. It is pure, as planPort is: the
// same arguments give the same text, and nothing is looked up.
func planFixed(cfg Config, node node) map[string]*iptables.Table {
	all := map[string]*iptables.Table{}
	for _, name := range tables {
		all[name] = iptables.NewTable(name)
		all[name].Declare(canaryChain)
	}
	filter, nat := all["filter"], all["nat"]
	filter.Declare(servicesChain, externalServicesChain, forwardChain, nodePortsChain, proxyFirewallChain, firewallChain)
	nat.Declare(servicesChain, nodePortsChain, postroutingChain, markMasqChain)
	p := newPlanner(cfg, node, false)
	p.fixedFilterRules(filter)
	p.fixedNATRules(nat)
	return all
}

// portRules are what one Service port adds: chains of its own, which are all in
// the nat table, and rules in chains which all ports share.
type portRules struct {
	own    *iptables.Table
	shared []sharedRule
}

// sharedRule is a rule in a chain such as KUBE-SERVICES.
type sharedRule struct {
	chain tableChain
	rule  string
}

// tableChain is a chain of a table: {"nat", "KUBE-SERVICES"}.
type tableChain struct{ table, chain string }

func planPort(port *proxy.Port, cfg Config, node node, large bool) portRules {
	p := newPlanner(cfg, node, large)
	p.port(port)
	return portRules{p.nat, p.shared}
}

func newPlanner(cfg Config, node node, large bool) *planner {
	return &planner{cfg: cfg, family: cfg.family(), node: node, large: large, nat: iptables.NewTable("nat")}
}

// planner collects rules.
type planner struct {
	cfg    Config
	family family
	node   node
	large  bool
	nat    *iptables.Table // chains of the port's own
	shared []sharedRule
}

// share writes a rule into a chain which all ports share.
func (p *planner) share(table, chain string, parts ...string) {
	p.shared = append(p.shared, sharedRule{tableChain{table, chain}, iptables.Rule(parts...)})
}

// fixedFilterRules are there without any Service.
func (p *planner) fixedFilterRules(filter *iptables.Table) {
	if p.cfg.loopbackNodePorts() {
		// route_localnet, which node ports on 127.0.0.1 need, would let a
		// neighbour on the network send to our 127.0.0.1 (CVE-2020-8558).
		filter.Add(firewallChain, "! -s 127.0.0.0/8 -d 127.0.0.0/8", comment("block incoming localnet connections"),
			"-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP")
	}
	// A packet conntrack calls invalid will not be translated back; passed on,
	// it would make the other side reset a good connection.
	filter.Add(forwardChain, "-m conntrack --ctstate INVALID", p.count(invalidCounter), "-j DROP")
	filter.Add(forwardChain, comment("kubernetes forwarding rules"), "-m mark --mark", p.cfg.mark(), "-j ACCEPT")
	filter.Add(forwardChain, comment("kubernetes forwarding conntrack rule"), "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
}

// fixedNATRules: marked packets leave with the node's address, and without
// the mark, so that nothing downstream sees it again.
func (p *planner) fixedNATRules(nat *iptables.Table) {
	bit := fmt.Sprintf("%#x", 1<<p.cfg.MasqueradeBit)
	nat.Add(postroutingChain, "-m mark ! --mark", p.cfg.mark(), "-j RETURN")
	nat.Add(postroutingChain, "-j MARK --xor-mark", bit)
	nat.Add(postroutingChain, comment("kubernetes service traffic requiring SNAT"), "-j MASQUERADE --random-fully")
	nat.Add(markMasqChain, "-j MARK --or-mark", bit)
}

// port writes all rules of one Service port.
func (p *planner) port(port *proxy.Port) {
	p.clusterIP(port)
	p.externalIPs(port)
	p.loadBalancer(port)
	p.nodePort(port)
	p.healthCheckNodePort(port)
	p.masqueradeClusterIP(port)
	p.externalChain(port)
	p.firewallChain(port)
	if usesCluster(port) {
		p.balance(serviceChain(servicePrefix, port), port, port.ClusterEndpoints)
	}
	if usesLocal(port) {
		p.balance(serviceChain(localPrefix, port), port, port.LocalEndpoints)
	}
	for _, endpoint := range port.Reachable() {
		p.endpoint(port, endpoint)
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
		return serviceChain(localPrefix, port)
	}
	return serviceChain(servicePrefix, port)
}

// clusterIP: the portal, or the refusal when nobody is there.
func (p *planner) clusterIP(port *proxy.Port) {
	destination := p.destination(port, port.ClusterIP.String())
	if len(port.Internal()) > 0 {
		p.share("nat", servicesChain, destination, comment(port.Name.String()+" cluster IP"), dport(port, port.Port), "-j", internalChain(port))
		return
	}
	p.refuse(servicesChain, port, destination, "", port.Port)
}

func (p *planner) externalIPs(port *proxy.Port) {
	for _, ip := range port.ExternalIPs {
		destination := p.destination(port, ip.String())
		if port.HasEndpoints {
			p.share("nat", servicesChain, destination, comment(port.Name.String()+" external IP"), dport(port, port.Port), "-j", serviceChain(externalPrefix, port))
		}
		if len(port.External()) == 0 {
			p.refuse(externalServicesChain, port, destination, "", port.Port)
		}
	}
}

// loadBalancer: the address in the Service's status. With source ranges it
// leads to KUBE-FW-, which lets the right ones through, and everything else is
// dropped in the filter table, for nat cannot drop. Without endpoints everybody is
// refused alike.
func (p *planner) loadBalancer(port *proxy.Port) {
	for _, ip := range port.LoadBalancerIPs {
		destination := p.destination(port, ip.String())
		target := serviceChain(externalPrefix, port)
		if port.HasEndpoints && len(port.SourceRanges) > 0 {
			target = serviceChain(firewallPrefix, port)
			p.share("filter", proxyFirewallChain, destination, comment(port.Name.String()+" traffic not accepted by "+target), dport(port, port.Port), "-j DROP")
		}
		if port.HasEndpoints {
			p.share("nat", servicesChain, destination, comment(port.Name.String()+" loadbalancer IP"), dport(port, port.Port), "-j", target)
		}
		if len(port.External()) == 0 {
			p.refuse(externalServicesChain, port, destination, "", port.Port)
		}
	}
}

// nodePort: the rule for 127.0.0.0/8 counts, so that an administrator sees
// whether somebody needs it, and is otherwise like the one after it.
func (p *planner) nodePort(port *proxy.Port) {
	if port.NodePort == 0 {
		return
	}
	proto := "-p " + port.LowerProtocol()
	if port.HasEndpoints {
		target := serviceChain(externalPrefix, port)
		if counter := p.count(localhostCounter); counter != "" && p.cfg.loopbackNodePorts() {
			p.share("nat", nodePortsChain, "-d 127.0.0.0/8", proto, comment(port.Name.String()), dport(port, port.NodePort), counter, "-j", target)
		}
		p.share("nat", nodePortsChain, proto, comment(port.Name.String()), dport(port, port.NodePort), "-j", target)
	}
	if len(port.External()) == 0 {
		p.refuse(externalServicesChain, port, proto, "-m addrtype --dst-type LOCAL", port.NodePort)
	}
}

// healthCheckNodePort must be reachable whatever the firewall says.
func (p *planner) healthCheckNodePort(port *proxy.Port) {
	if port.HealthCheckNodePort == 0 {
		return
	}
	p.share("filter", nodePortsChain, "-p tcp", comment(port.Name.String()+" health check node port"),
		fmt.Sprintf("-m tcp --dport %d -j ACCEPT", port.HealthCheckNodePort))
}

// refuse answers instead of the endpoints which are not there: an error at
// once when there are none at all, silence when the policy forbids those of
// other nodes (a load balancer then tries another node).
func (p *planner) refuse(chain string, port *proxy.Port, destination, extra string, number uint16) {
	if port.HasEndpoints {
		p.share("filter", chain, destination, comment(port.Name.String()+" has no local endpoints"), extra, dport(port, number), "-j DROP")
		return
	}
	p.share("filter", chain, destination, comment(port.Name.String()+" has no endpoints"), extra, dport(port, number), "-j REJECT --reject-with "+p.family.reject)
}

// masqueradeClusterIP: who is not a pod and talks to a ClusterIP (the node
// itself, somebody who routed here) must get its answer through this node.
func (p *planner) masqueradeClusterIP(port *proxy.Port) {
	if len(port.Internal()) == 0 {
		return
	}
	source := ""
	switch {
	case p.cfg.MasqueradeAll:
	case p.cfg.LocalPods.Known():
		source = "! " + p.cfg.LocalPods.IPTables()
	default:
		return
	}
	p.nat.Add(internalChain(port), source, p.destination(port, port.ClusterIP.String()), comment(port.Name.String()+" cluster IP"), dport(port, port.Port), "-j", markMasqChain)
}

// externalChain is met by everything that came to an external address. With
// policy Cluster it is masqueraded, since the answer must come back this way.
// With policy Local the client keeps its address and only endpoints here are
// used, but pods and the node itself may go to all of them.
func (p *planner) externalChain(port *proxy.Port) {
	if !port.HasEndpoints || !port.ExternallyAccessible() {
		return
	}
	chain, cluster := serviceChain(externalPrefix, port), serviceChain(servicePrefix, port)
	destinations := port.Name.String() + " external destinations"
	p.nat.Declare(chain)
	if !port.ExternalLocal {
		p.nat.Add(chain, comment("masquerade traffic for "+destinations), "-j", markMasqChain)
		if len(port.ClusterEndpoints) > 0 {
			p.nat.Add(chain, "-j", cluster)
		}
		return
	}
	if p.cfg.LocalPods.Known() {
		p.nat.Add(chain, p.cfg.LocalPods.IPTables(), comment("pod traffic for "+destinations), "-j", cluster)
	}
	p.nat.Add(chain, comment("masquerade LOCAL traffic for "+destinations), "-m addrtype --src-type LOCAL", "-j", markMasqChain)
	p.nat.Add(chain, comment("route LOCAL traffic for "+destinations), "-m addrtype --src-type LOCAL", "-j", cluster)
	if len(port.LocalEndpoints) > 0 {
		p.nat.Add(chain, "-j", serviceChain(localPrefix, port))
	}
}

// firewallChain lets loadBalancerSourceRanges through to the external chain.
func (p *planner) firewallChain(port *proxy.Port) {
	if len(port.SourceRanges) == 0 || len(port.LoadBalancerIPs) == 0 || !port.HasEndpoints {
		return
	}
	chain, external := serviceChain(firewallPrefix, port), serviceChain(externalPrefix, port)
	fromNode := false
	for _, r := range port.SourceRanges {
		p.nat.Add(chain, "-s", r.String(), comment(port.Name.String()+" loadbalancer IP"), "-j", external)
		fromNode = fromNode || r.Contains(p.cfg.NodeIP)
	}
	if fromNode {
		// The node may have the address itself, and would then be its own client.
		for _, ip := range port.LoadBalancerIPs {
			p.nat.Add(chain, "-s", ip.String()+p.family.single, comment(port.Name.String()+" loadbalancer IP"), "-j", external)
		}
	}
	p.nat.Add(chain, comment("other traffic to "+port.Name.String()+" will be dropped by "+proxyFirewallChain))
}

// balance is the choice of an endpoint. With affinity, the one this client had
// within the timeout comes first. Then dice: rule i of n is only met when the
// ones before it have let the packet pass, so its chance is 1/(n-i), and the
// last one takes the rest.
func (p *planner) balance(chain string, port *proxy.Port, endpoints []*proxy.Endpoint) {
	p.nat.Declare(chain)
	if seconds := int(port.AffinityTimeout.Seconds()); seconds > 0 {
		for _, e := range endpoints {
			name := endpointChain(port, e)
			p.nat.Add(chain, p.endpointComment(port.Name.String()+" -> "+e.String()),
				fmt.Sprintf("-m recent --rcheck --seconds %d --reap --name %s --mask %s --rsource -j %s", seconds, name, p.family.affinity, name))
		}
	}
	for i, e := range endpoints {
		dice := ""
		if left := len(endpoints) - i; left > 1 {
			dice = fmt.Sprintf("-m statistic --mode random --probability %0.10f", 1/float64(left))
		}
		p.nat.Add(chain, p.endpointComment(port.Name.String()+" -> "+e.String()), dice, "-j", endpointChain(port, e))
	}
}

// endpoint is the end of the way: DNAT. A pod that reaches itself through its
// Service is masqueraded, or it would see its own address as the client's.
func (p *planner) endpoint(port *proxy.Port, e *proxy.Endpoint) {
	chain := endpointChain(port, e)
	p.nat.Declare(chain)
	p.nat.Add(chain, "-s", e.Address.Addr().String()+p.family.single, p.endpointComment(port.Name.String()), "-j", markMasqChain)
	remember := ""
	if port.AffinityTimeout > 0 {
		remember = fmt.Sprintf("-m recent --set --name %s --mask %s --rsource", chain, p.family.affinity)
	}
	proto := port.LowerProtocol()
	p.nat.Add(chain, "-p", proto, p.endpointComment(port.Name.String()), remember, "-m", proto, "-j DNAT --to-destination", e.String())
}

// nodePortsJump comes last in KUBE-SERVICES: only what no other rule wanted
// and is for an address of this node can be for a node port.
func nodePortsJump(nat *iptables.Table, cfg Config, node node) {
	words := comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain")
	switch {
	case !cfg.everyNodePortAddress():
		for _, addr := range node.nodePorts {
			nat.Add(servicesChain, "-d", addr.String()+cfg.family().single, words, "-j", nodePortsChain)
		}
	case cfg.loopbackNodePorts():
		nat.Add(servicesChain, words, "-m addrtype --dst-type LOCAL", "-j", nodePortsChain)
	default:
		nat.Add(servicesChain, "! -d", cfg.family().loopback, words, "-m addrtype --dst-type LOCAL", "-j", nodePortsChain)
	}
}

// destination and dport are the two halves of "is for this port".
func (p *planner) destination(port *proxy.Port, ip string) string {
	return "-d " + ip + p.family.single + " -p " + port.LowerProtocol()
}

func dport(port *proxy.Port, number uint16) string {
	return fmt.Sprintf("-m %s --dport %d", port.LowerProtocol(), number)
}

func comment(text string) string { return `-m comment --comment "` + text + `"` }

func (p *planner) endpointComment(text string) string {
	if p.large {
		return ""
	}
	return comment(text)
}

// count names a counter of the kernel's accounting, where it has one.
func (p *planner) count(name string) string {
	if !p.node.nfacct {
		return ""
	}
	return "-m nfacct --nfacct-name " + name
}
