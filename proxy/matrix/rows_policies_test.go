package matrix

import (
	corev1 "k8s.io/api/core/v1"
)

func policyRows() []row {
	podB, podD := endpoint("pod-b"), endpoint("pod-d")
	two := slice(podB, podD)
	onNode1 := byMode(
		cells{"pod-b saw pod-a", "pod-d saw pod-c", "pod-b saw node-1", "pod-b saw node-1"},
		cells{"pod-b saw node-1", "pod-d saw node-2", "pod-b saw node-1", "pod-b saw node-1"})
	any := byMode(
		cells{"pod-b saw pod-a | pod-d saw pod-a", "pod-b saw pod-c | pod-d saw pod-c", "pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-1 | pod-d saw node-1"},
		cells{"pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-2 | pod-d saw node-2", "pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-1 | pod-d saw node-1"})
	sticky := map[string]cells{}
	for mode, c := range any {
		sticky[mode] = cells{"same: " + c[0], "same: " + c[1], "same: " + c[2], "same: " + c[3]}
	}
	return []row{
		{name: "F2 sessionAffinity ClientIP", service: service(affinity(10800)), slice: two, to: clusterIP, expected: sticky},
		{name: "F2 sessionAffinity switched off, live", service: service(), slice: two, to: clusterIP, expected: any},
		{name: "F2 sessionAffinity switched on again, live", service: service(affinity(10800)), slice: two, to: clusterIP, expected: sticky},
		{name: "F2 sessionAffinity on a NodePort", service: service(nodePort, affinity(10800)), slice: two, to: nodePortOf1, expected: everywhere(cells{
			"same: pod-b saw node-1 | pod-d saw node-1", "same: pod-b saw node-1 | pod-d saw node-1",
			"same: pod-b saw node-1 | pod-d saw node-1", "same: pod-b saw node-1 | pod-d saw node-1",
		})},
		{name: "F2 internalTrafficPolicy Local", service: service(internalLocal), slice: two, to: clusterIP, expected: onNode1},
		{name: "F2 internalTrafficPolicy Local, none on the other node", service: service(internalLocal), slice: slice(podB), to: clusterIP, expected: withIPVS(byMode(
			cells{"pod-b saw pod-a", "no answer", "pod-b saw node-1", "pod-b saw node-1"},
			cells{"pod-b saw node-1", "no answer", "pod-b saw node-1", "pod-b saw node-1"}),
			cells{"pod-b saw pod-a", "refused", "pod-b saw node-1", "pod-b saw node-1"})},
		// The client's address is kept. Pods and the node itself are not sent
		// away: they are within the cluster, wherever they knock.
		{name: "F2 externalTrafficPolicy Local, NodePort", service: service(nodePort, externalLocal), slice: slice(podB), to: nodePortOf1, expected: byMode(
			cells{"pod-b saw pod-a", "pod-b saw pod-c", "pod-b saw node-1", "pod-b saw client"},
			throughNode1)},
		// Without masquerade pod-b answers pod-a straight over their bridge, from
		// an address which pod-a has not asked.
		{name: "F2 externalTrafficPolicy Local, NodePort of a node without endpoint", service: service(nodePort, externalLocal), slice: slice(podB), to: nodePortOf2, expected: byMode(
			cells{"no answer", "pod-b saw pod-c", "no answer", "no answer"},
			cells{"pod-b saw node-2", "pod-b saw node-2", "no answer", "no answer"})},
		{name: "F2 externalTrafficPolicy Local, load balancer", service: service(loadBalancer("203.0.113.10"), externalLocal), slice: slice(podB), to: externalPortal, expected: byMode(
			cells{"pod-b saw pod-a", "pod-b saw pod-c", "pod-b saw node-1", "pod-b saw client"},
			proxyToPodB)},
		{name: "F2 externalTrafficPolicy Local, load balancer, no local endpoint", service: service(loadBalancer("203.0.113.10"), externalLocal), slice: slice(podD), to: externalPortal, expected: byMode(
			cells{"pod-d saw pod-a", "pod-d saw pod-c", "pod-d saw node-1", "no answer"},
			cells{"pod-d saw node-1", "pod-d saw node-2", "pod-d saw node-1", "no answer"})},
		{name: "F2 externalTrafficPolicy Local, externalIPs", service: service(externalIP("203.0.113.10"), externalLocal), slice: two, to: externalPortal, expected: withIPVS(byMode(
			cells{"pod-b saw pod-a | pod-d saw pod-a", "pod-b saw pod-c | pod-d saw pod-c", "pod-b saw node-1 | pod-d saw node-1", "pod-b saw client"},
			cells{"pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-2 | pod-d saw node-2", "pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-1"}),
			cells{"pod-b saw pod-a", "pod-d saw pod-c", "pod-b saw node-1", "pod-b saw client"})},
		{name: "F2 healthCheckNodePort, an endpoint here", service: service(loadBalancer("203.0.113.10"), externalLocal, healthCheckNodePort), slice: two, to: "http 192.168.56.11:31234", expected: everywhere(
			cells{"200, 1 local", "200, 1 local", "200, 1 local", "200, 1 local"})},
		{name: "F2 healthCheckNodePort, none here", service: service(loadBalancer("203.0.113.10"), externalLocal, healthCheckNodePort), slice: slice(podD), to: "http 192.168.56.11:31234", expected: everywhere(
			cells{"503, 0 local", "503, 0 local", "503, 0 local", "503, 0 local"})},
		{name: "F2 healthCheckNodePort, closed with the Service's policy", service: service(loadBalancer("203.0.113.10")), slice: slice(podD), to: "http 192.168.56.11:31234", expected: everywhere(refused)},
		{name: "F2 loadBalancerSourceRanges, of outside clients", service: service(loadBalancer("203.0.113.10"), sourceRanges("198.51.100.0/24")), slice: slice(podB), to: externalPortal, expected: everywhere(
			cells{"no answer", "no answer", "no answer", "pod-b saw node-1"})},
		{name: "F2 loadBalancerSourceRanges, of the cluster", service: service(loadBalancer("203.0.113.10"), sourceRanges("10.244.0.0/16", "192.168.56.0/24")), slice: slice(podB), to: externalPortal, expected: everywhere(
			cells{"pod-b saw node-1", "pod-b saw node-2", "pod-b saw node-1", "no answer"})},
		{name: "F2 loadBalancerSourceRanges do not guard the ClusterIP", service: service(loadBalancer("203.0.113.10"), sourceRanges("10.1.0.0/16")), slice: slice(podB), to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{name: "F2 loadBalancerSourceRanges and externalTrafficPolicy Local", service: service(loadBalancer("203.0.113.10"), sourceRanges("198.51.100.0/24"), externalLocal), slice: slice(podB), to: externalPortal, expected: byMode(
			cells{"no answer", "no answer", "no answer", "pod-b saw client"},
			cells{"no answer", "no answer", "no answer", "pod-b saw node-1"})},
		{name: "F2 trafficDistribution PreferSameZone", service: service(), slice: slice(endpoint("pod-b", forZone("z1")), endpoint("pod-d", forZone("z2"))), to: clusterIP, expected: onNode1},
		{name: "F2 trafficDistribution, an endpoint without hint", service: service(), slice: slice(endpoint("pod-b", forZone("z1")), podD), to: clusterIP, expected: any},
		{name: "F2 trafficDistribution PreferSameNode", service: service(), slice: slice(endpoint("pod-b", forZone("z1"), forNode("node-1")), endpoint("pod-a", forZone("z1"), forNode("node-9")), endpoint("pod-d", forZone("z2"), forNode("node-2"))), to: clusterIP, expected: onNode1},
		{name: "F2 publishNotReadyAddresses", service: service(publishNotReady), slice: slice(endpoint("pod-b", servingNot)), to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{name: "F2 terminating, others are ready", service: service(), slice: slice(podB, endpoint("pod-d", ending)), to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{name: "F2 terminating, nobody is ready", service: service(), slice: slice(endpoint("pod-b", ending), endpoint("pod-d", notReady)), to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{name: "F2 terminating and externalTrafficPolicy Local", service: service(nodePort, externalLocal), slice: slice(endpoint("pod-b", ending), podD), to: nodePortOf1, expected: withIPVS(byMode(
			cells{"pod-d saw pod-a", "no answer", "pod-d saw node-1", "pod-b saw client"}, // pod-c: as above
			cells{"pod-d saw node-1", "pod-d saw node-1", "pod-d saw node-1", "pod-b saw node-1"}),
			cells{"pod-b saw pod-a", "pod-b saw pod-c", "pod-b saw node-1", "pod-b saw client"})},
		{name: "F2 never an endpoint that is not ready", service: service(), slice: slice(endpoint("pod-b", notReady)), to: clusterIP, expected: everywhere(refused)},
		{name: "F2 sessionAffinity, UDP", service: service(protocol(corev1.ProtocolUDP), affinity(10800)), slice: withPorts(slice(podB, podD), port("", corev1.ProtocolUDP, mainPort)), to: "udp 10.96.0.20:80", expected: sticky},
	}
}
