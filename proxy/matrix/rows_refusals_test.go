package matrix

import (
	corev1 "k8s.io/api/core/v1"
)

var refused = cells{"refused", "refused", "refused", "refused"}

func refusalRows() []row {
	none, podB := slice(), slice(endpoint("pod-b"))
	udp := withPorts(slice(), port("", corev1.ProtocolUDP, mainPort))
	refusedOutside := map[string]cells{
		kernel: refused, "userspace": refused,
		// No rule of OUTPUT looks at external addresses: the node's own packet
		// leaves, and the router refuses it.
		"iptables": {"refused", "refused", "unreachable", "refused"},
	}
	return []row{
		{name: "F3 no endpoints, ClusterIP", service: service(), slice: none, to: clusterIP, expected: everywhere(refused)},
		{name: "F3 no endpoints, ClusterIP, UDP", service: service(protocol(corev1.ProtocolUDP)), slice: udp, to: "udp 10.96.0.20:80", expected: everywhere(refused)},
		{name: "F3 no endpoints, NodePort", service: service(nodePort), slice: none, to: nodePortOf1, expected: everywhere(refused)},
		{name: "F3 no endpoints, NodePort of another node", service: service(nodePort), slice: none, to: nodePortOf2, expected: everywhere(refused)},
		{name: "F3 no endpoints, load balancer", service: service(loadBalancer("203.0.113.10")), slice: none, to: externalPortal, expected: refusedOutside},
		{name: "F3 no endpoints, externalIPs", service: service(externalIP("203.0.113.10")), slice: none, to: externalPortal, expected: refusedOutside},
		{name: "F3 no endpoints, externalTrafficPolicy Local", service: service(nodePort, externalLocal), slice: none, to: nodePortOf1, expected: everywhere(refused)},
		{name: "F3 hairpin: a pod reaches itself", service: service(), slice: slice(endpoint("pod-a")), to: clusterIP, expected: byMode(
			cells{"pod-a saw node-1", "pod-a saw pod-c", "pod-a saw node-1", "pod-a saw node-1"},
			cells{"pod-a saw node-1", "pod-a saw node-2", "pod-a saw node-1", "pod-a saw node-1"})},
		{name: "F3 hairpin through the load balancer's address, policy Local", service: service(loadBalancer("203.0.113.10"), externalLocal), slice: slice(endpoint("pod-a")), to: externalPortal, expected: byMode(
			cells{"pod-a saw node-1", "pod-a saw pod-c", "pod-a saw node-1", "pod-a saw client"},
			cells{"pod-a saw node-1", "pod-a saw node-2", "pod-a saw node-1", "pod-a saw node-1"})},
		{name: "F3 masquerade: a node's own connection to an endpoint elsewhere", service: service(), slice: slice(endpoint("pod-d")), to: clusterIP, expected: byMode(
			cells{"pod-d saw pod-a", "pod-d saw pod-c", "pod-d saw node-1", "pod-d saw node-1"},
			cells{"pod-d saw node-1", "pod-d saw node-2", "pod-d saw node-1", "pod-d saw node-1"})},
		{name: "F3 masquerade: masquerade-all", flags: flags{MasqueradeAll: true}, service: service(), slice: podB, to: clusterIP, expected: everywhere(proxyToPodB)},
		{name: "F3 masquerade: no cluster CIDR known", flags: flags{NoClusterCIDR: true}, service: service(), slice: podB, to: clusterIP, expected: byMode(
			cells{"pod-b saw pod-a", "pod-b saw pod-c", "pod-b saw node-1", "pod-b saw client"},
			proxyToPodB)},
		{name: "F3 masquerade: none without a Service", service: service(), slice: podB, to: "tcp 10.244.1.3:8080", expected: everywhere(
			cells{"pod-b saw pod-a", "pod-b saw pod-c", "pod-b saw node-1", "pod-b saw client"})},
	}
}

// features are what the rows must be about.
var features = []string{
	"F1 ClusterIP, TCP", "F1 ClusterIP, UDP", "F1 ClusterIP, SCTP", "F1 NodePort, SCTP", "F1 multi-port", "F1 same port on TCP and UDP", "F1 NodePort", "F1 LoadBalancer status IP",
	"F1 LoadBalancer, ipMode Proxy", "F1 externalIPs", "F1 ExternalName", "F1 headless", "F1 label service-proxy-name", "F1 label headless",
	"F2 sessionAffinity ClientIP", "F2 sessionAffinity switched", "F2 internalTrafficPolicy", "F2 externalTrafficPolicy Local",
	"F2 healthCheckNodePort", "F2 loadBalancerSourceRanges", "F2 trafficDistribution PreferSameZone", "F2 trafficDistribution PreferSameNode",
	"F2 publishNotReadyAddresses", "F2 terminating", "F2 never an endpoint that is not ready",
	"F3 no endpoints, ClusterIP", "F3 no endpoints, NodePort", "F3 hairpin", "F3 masquerade",
}
