package iptables

import (
	"crypto/sha256"
	"encoding/base32"

	"github.com/podarium/podarium/proxy"
)

// The chains of iptables mode, as `iptables-save` shows them.
const (
	servicesChain         = "KUBE-SERVICES"          // nat, filter: first look at the destination
	externalServicesChain = "KUBE-EXTERNAL-SERVICES" // filter: external addresses without endpoints
	nodePortsChain        = "KUBE-NODEPORTS"         // nat: node ports; filter: health check node ports
	proxyFirewallChain    = "KUBE-PROXY-FIREWALL"    // filter: who is not in loadBalancerSourceRanges
	forwardChain          = "KUBE-FORWARD"           // filter: let marked and known packets through
	firewallChain         = "KUBE-FIREWALL"          // filter: nobody outside may reach 127.0.0.0/8
	postroutingChain      = "KUBE-POSTROUTING"       // nat: masquerade what is marked
	markMasqChain         = "KUBE-MARK-MASQ"         // nat: mark it
	canaryChain           = "KUBE-PROXY-CANARY"      // in every table: gone when somebody flushed the table

	servicePrefix  = "KUBE-SVC-" // a Service port's endpoints, traffic policy Cluster
	localPrefix    = "KUBE-SVL-" // its endpoints on this node, traffic policy Local
	externalPrefix = "KUBE-EXT-" // what comes from outside to it
	firewallPrefix = "KUBE-FW-"  // what comes to its load balancer address, with source ranges
	endpointPrefix = "KUBE-SEP-" // one endpoint
)

// ownPrefixes are those of the chains made for Services and endpoints.
var ownPrefixes = []string{servicePrefix, localPrefix, externalPrefix, firewallPrefix, endpointPrefix}

// serviceChain is KUBE-SVC-2CMXP7HKUVJN7L6M for TCP port "" of default/nginx;
// the other prefixes work alike.
func serviceChain(prefix string, port *proxy.Port) string {
	return prefix + hash(port.Name.String()+port.LowerProtocol())
}

// endpointChain is KUBE-SEP-XZRG5L6J3WL7H422 for its endpoint 10.0.1.79:80.
func endpointChain(port *proxy.Port, endpoint *proxy.Endpoint) string {
	return endpointPrefix + hash(port.Name.String()+port.LowerProtocol()+endpoint.String())
}

// hash is 80 bits of SHA-256 in base32: chain names may have 28 characters.
func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}
