package ipvs

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// Plan is everything a snapshot means on this node.
type Plan struct {
	Servers   servers             // what `ipvsadm -Ln` shows
	Addresses map[netip.Addr]bool // of kube-ipvs0
	Sets      contents            // what `ipset save` shows
	Rules     *iptables.Ruleset
}

// plan is pure: the same arguments give the same plan, and nothing is looked
// up. own are the node's addresses besides those of loopback and of kube-ipvs0.
func plan(snapshot *proxy.Snapshot, cfg Config, own []netip.Addr) *Plan {
	p := &planner{cfg: cfg, own: own, nodePorts: own, plan: &Plan{Servers: servers{}, Addresses: map[netip.Addr]bool{}, Sets: newContents()}}
	if len(cfg.NodePortAddresses) > 0 {
		p.nodePorts = nil
		for _, addr := range own {
			if slices.ContainsFunc(cfg.NodePortAddresses, func(r netip.Prefix) bool { return r.Contains(addr) }) {
				p.nodePorts = append(p.nodePorts, addr)
			}
		}
	}
	for _, port := range snapshot.Ports {
		p.port(port)
	}
	for addr := range p.plan.Addresses {
		p.add(ipvsIPsSet, addr.String())
	}
	p.plan.Rules = chains(p.plan.Sets, cfg, p.closed)
	return p.plan
}

// planner collects the plan of one snapshot.
type planner struct {
	cfg       Config
	own       []netip.Addr // the node's addresses
	nodePorts []netip.Addr // those of them that take node ports
	closed    []portal     // load balancer addresses which the node itself may not use
	plan      *Plan
}

// portal is an address of a Service port.
type portal struct {
	protocol string // tcp, udp, sctp
	address  netip.AddrPort
}

// element is a portal as the sets have it: "10.96.28.255,tcp:80".
func (p portal) element() string {
	return fmt.Sprintf("%s,%s:%d", p.address.Addr(), p.protocol, p.address.Port())
}

func (p *planner) add(set, element string) { p.plan.Sets[set][element] = true }

// port plans one Service port. All its addresses become virtual servers, and
// elements of the sets by which rules know what is to be masqueraded.
func (p *planner) port(port *proxy.Port) {
	for _, e := range port.Reachable() {
		if e.Local {
			p.loopBack(port, e)
		}
	}
	cluster := at(port, port.ClusterIP, port.Port)
	p.add(clusterIPSet, cluster.element())
	p.virtual(port, cluster, port.Internal())
	for _, ip := range port.ExternalIPs {
		portal, set := at(port, ip, port.Port), externalIPSet
		if port.ExternalLocal {
			set = externalIPLocalSet
		}
		p.add(set, portal.element())
		p.virtual(port, portal, external(port))
	}
	for _, ip := range port.LoadBalancerIPs {
		p.loadBalancer(port, at(port, ip, port.Port))
	}
	p.nodePort(port)
	if port.HealthCheckNodePort != 0 {
		p.add(healthCheckSet, fmt.Sprint(port.HealthCheckNodePort))
	}
}

func at(port *proxy.Port, ip netip.Addr, number uint16) portal {
	return portal{port.LowerProtocol(), netip.AddrPortFrom(ip, number)}
}

// external are the endpoints behind the addresses for the outside. Traffic
// policy Local without a local endpoint: those of other nodes, so that pods and
// this node can use the address. Who comes from outside is then not answered
// either, since a packet which nobody has masqueraded has its answer come from
// the pod's address, and the client knows no such connection.
func external(port *proxy.Port) []*proxy.Endpoint {
	if list := port.External(); len(list) > 0 {
		return list
	}
	return port.ClusterEndpoints
}

// loopBack: an endpoint that reaches itself through its Service is
// masqueraded, or it would see its own address as the client's.
func (p *planner) loopBack(port *proxy.Port, e *proxy.Endpoint) {
	self := portal{port.LowerProtocol(), e.Address}
	p.add(loopBackSet, self.element()+","+e.Address.Addr().String())
}

// virtual adds a virtual server with its real servers, and its address to
// kube-ipvs0 unless the node has it already.
func (p *planner) virtual(port *proxy.Port, at portal, endpoints []*proxy.Endpoint) {
	s := &server{scheduler: p.cfg.Scheduler, real: map[netip.AddrPort]int{}}
	if port.AffinityTimeout > 0 {
		s.flags |= flagPersistent
		s.timeout = uint32(port.AffinityTimeout.Seconds())
	}
	s.flags |= schedulerFlags[p.cfg.Scheduler]
	for _, e := range endpoints {
		s.real[e.Address] = active
	}
	if port.Name.Protocol == corev1.ProtocolUDP {
		for _, e := range port.Draining() {
			s.real[e.Address] = draining
		}
	}
	p.plan.Servers[at] = s
	if addr := at.address.Addr(); !slices.Contains(p.own, addr) {
		p.plan.Addresses[addr] = true
	}
}

// loadBalancer: the address in the Service's status, and who may use it.
func (p *planner) loadBalancer(port *proxy.Port, portal portal) {
	p.add(loadBalancerSet, portal.element())
	if port.ExternalLocal {
		p.add(loadBalancerLocalSet, portal.element())
	}
	if len(port.SourceRanges) > 0 {
		p.sourceRanges(port, portal)
	}
	p.virtual(port, portal, external(port))
}

// sourceRanges: what comes in is looked up by its source. What the node itself
// sends has the load balancer's own address as source, for that is the one of
// kube-ipvs0 that is nearest to it: it is let through, or stopped, by that.
func (p *planner) sourceRanges(port *proxy.Port, portal portal) {
	p.add(loadBalancerFWSet, portal.element())
	fromNode := false
	for _, r := range port.SourceRanges {
		for _, half := range p.nonZero(r) {
			p.add(sourceCIDRSet, portal.element()+","+half.String())
		}
		fromNode = fromNode || r.Contains(p.cfg.NodeIP)
	}
	if fromNode {
		p.add(sourceIPSet, portal.element()+","+portal.address.Addr().String())
	} else {
		p.closed = append(p.closed, portal)
	}
}

// nonZero: a set of ranges cannot hold 0.0.0.0/0, but its two halves.
func (p *planner) nonZero(r netip.Prefix) []netip.Prefix {
	if r.Bits() > 0 {
		return []netip.Prefix{r}
	}
	halves := p.cfg.family().halves
	return halves[:]
}

// nodePort is a virtual server on every address of the node that takes some.
func (p *planner) nodePort(port *proxy.Port) {
	if port.NodePort == 0 {
		return
	}
	for _, addr := range p.nodePorts {
		portal := at(port, addr, port.NodePort)
		p.virtual(port, portal, external(port))
		suffix, element := string(port.Name.Protocol), fmt.Sprint(port.NodePort)
		if port.Name.Protocol == corev1.ProtocolSCTP {
			suffix, element = "SCTP-HASH", portal.element()
		}
		p.add(nodePortPrefix+suffix, element)
		if port.ExternalLocal {
			p.add(nodePortLocalPrefix+suffix, element)
		}
	}
}
