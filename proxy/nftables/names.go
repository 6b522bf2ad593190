package nftables

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/podarium/podarium/proxy"
)

// table is what `nft list table ip kube-proxy` shows. Nothing in it is anybody
// else's, so it can be replaced or removed as a whole.
const table = "kube-proxy"

// The chains that every snapshot has, by what meets them.
const (
	servicesChain       = "services"                 // first look at the destination
	masqueradingChain   = "masquerading"             // on the way out
	serviceCheckChain   = "service-endpoints-check"  // is nobody there?
	nodePortCheckChain  = "nodeport-endpoints-check" // the same for node ports
	firewallCheckChain  = "firewall-check"           // may this client use the load balancer's address?
	clusterIPCheckChain = "cluster-ips-check"        // a ClusterIP, but no port of it
	rejectChain         = "reject-chain"
)

// The sets and maps, which are what grows with the cluster.
const (
	clusterIPsSet        = "cluster-ips"
	hairpinSet           = "hairpin-connections"
	nodePortIPsSet       = "nodeport-ips"
	serviceIPsMap        = "service-ips"
	serviceNodePortsMap  = "service-nodeports"
	firewallIPsMap       = "firewall-ips"
	noEndpointServices   = "no-endpoint-services"
	noEndpointNodePorts  = "no-endpoint-nodeports"
	affinityPrefix       = "affinity-" // clients which an endpoint has had
	servicePrefix        = "service-"  // a Service port's endpoints, traffic policy Cluster
	localPrefix          = "local-"    // those on this node
	externalPrefix       = "external-" // what comes from outside to it
	firewallPrefix       = "firewall-" // its load balancer's source ranges
	endpointPrefix       = "endpoint-" // one endpoint, only with session affinity
	nodePortVerdictsType = "type inet_proto . inet_service : verdict ;"
)

// portName is "C355C5SW-default/simpleservice/tcp/": readable, and by its hash
// unique even where a name had to be cut.
func portName(port *proxy.Port) string {
	return hashed(fmt.Sprintf("%s/%s/%s/%s", port.Name.Namespace, port.Name.Name, port.LowerProtocol(), port.Name.Port))
}

// endpointName is "FAGXUHUK-default/simpleservice/tcp/__10.244.1.3/9876"; the
// colons of an IPv6 address, which no name may have, become dots.
func endpointName(port *proxy.Port, e *proxy.Endpoint) string {
	ip := strings.ReplaceAll(e.Address.Addr().String(), ":", ".")
	return hashed(fmt.Sprintf("%s/%s/%s/%s__%s/%d", port.Name.Namespace, port.Name.Name, port.LowerProtocol(), port.Name.Port, ip, e.Address.Port()))
}

func hashed(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base32.StdEncoding.EncodeToString(sum[:])[:8] + "-" + name
}
