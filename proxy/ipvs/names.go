package ipvs

// device is the dummy interface that holds all Services' addresses: `ip addr
// show kube-ipvs0`. It is never up; its addresses are local all the same.
const device = "kube-ipvs0"

// The chains of ipvs mode, as `iptables-save` shows them.
const (
	servicesChain     = "KUBE-SERVICES"               // nat: what is masqueraded
	nodePortChain     = "KUBE-NODE-PORT"              // nat: node ports that are masqueraded; filter: health check node ports
	loadBalancerChain = "KUBE-LOAD-BALANCER"          // nat: load balancer addresses that are masqueraded
	postroutingChain  = "KUBE-POSTROUTING"            // nat: masquerade what is marked
	markMasqChain     = "KUBE-MARK-MASQ"              // nat: mark it
	forwardChain      = "KUBE-FORWARD"                // filter: let marked and known packets through
	firewallChain     = "KUBE-PROXY-FIREWALL"         // filter: load balancer addresses with source ranges
	sourceRangesChain = "KUBE-SOURCE-RANGES-FIREWALL" // filter: drop who is not in them
	filterChain       = "KUBE-IPVS-FILTER"            // filter: the node's own ports do not answer on Services' addresses
	outFilterChain    = "KUBE-IPVS-OUT-FILTER"        // filter: nor may the node use an address it is not let to
)

// The ipsets, as `ipset list` shows them.
const (
	loopBackSet          = "KUBE-LOOP-BACK"
	clusterIPSet         = "KUBE-CLUSTER-IP"
	externalIPSet        = "KUBE-EXTERNAL-IP"
	externalIPLocalSet   = "KUBE-EXTERNAL-IP-LOCAL"
	loadBalancerSet      = "KUBE-LOAD-BALANCER"
	loadBalancerLocalSet = "KUBE-LOAD-BALANCER-LOCAL"
	loadBalancerFWSet    = "KUBE-LOAD-BALANCER-FW"
	sourceCIDRSet        = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
	sourceIPSet          = "KUBE-LOAD-BALANCER-SOURCE-IP"
	healthCheckSet       = "KUBE-HEALTH-CHECK-NODE-PORT"
	ipvsIPsSet           = "KUBE-IPVS-IPS"

	nodePortPrefix      = "KUBE-NODE-PORT-"       // + TCP, UDP or SCTP-HASH
	nodePortLocalPrefix = "KUBE-NODE-PORT-LOCAL-" // the same, of Services with externalTrafficPolicy Local
)

// The types of sets. A bitmap of ports knows no protocol, so there is one for
// each; for SCTP the kernel's bitmap:port does not work, hence its hash.
const (
	hashIP        = "hash:ip"
	hashIPPort    = "hash:ip,port"
	hashIPPortIP  = "hash:ip,port,ip"
	hashIPPortNet = "hash:ip,port,net"
	bitmapPort    = "bitmap:port"
)

// sets are all of them: name, type and the comment of the rules that look
// there. All exist at all times, so that a rule may name an empty one.
var sets = []struct{ name, kind, comment string }{
	{loopBackSet, hashIPPortIP, "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"},
	{clusterIPSet, hashIPPort, "Kubernetes service cluster ip + port for masquerade purpose"},
	{externalIPSet, hashIPPort, "Kubernetes service external ip + port for masquerade and filter purpose"},
	{externalIPLocalSet, hashIPPort, "Kubernetes service external ip + port with externalTrafficPolicy=local"},
	{loadBalancerSet, hashIPPort, "Kubernetes service lb portal"},
	{loadBalancerFWSet, hashIPPort, "Kubernetes service load balancer ip + port for load balancer with sourceRange"},
	{loadBalancerLocalSet, hashIPPort, "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"},
	{sourceIPSet, hashIPPortIP, "Kubernetes service load balancer ip + port + source IP for packet filter purpose"},
	{sourceCIDRSet, hashIPPortNet, "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"},
	{nodePortPrefix + "TCP", bitmapPort, "Kubernetes nodeport TCP port for masquerade purpose"},
	{nodePortLocalPrefix + "TCP", bitmapPort, "Kubernetes nodeport TCP port with externalTrafficPolicy=local"},
	{nodePortPrefix + "UDP", bitmapPort, "Kubernetes nodeport UDP port for masquerade purpose"},
	{nodePortLocalPrefix + "UDP", bitmapPort, "Kubernetes nodeport UDP port with externalTrafficPolicy=local"},
	{nodePortPrefix + "SCTP-HASH", hashIPPort, "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'"},
	{nodePortLocalPrefix + "SCTP-HASH", hashIPPort, "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'"},
	{healthCheckSet, bitmapPort, "Kubernetes health check node port"},
	{ipvsIPsSet, hashIP, ""}, // looked at without a comment
}
