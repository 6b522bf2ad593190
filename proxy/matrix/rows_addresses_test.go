package matrix

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/proxy"
)

// Where Services are found. The endpoint's pod-b is on node-1, which is also
// the "node itself", and where the client's packets enter.
const (
	clusterIP      = "tcp 10.96.0.20:80"
	nodePortOf1    = "tcp 192.168.56.11:30080"
	nodePortOf2    = "tcp 192.168.56.12:30080"
	externalPortal = "tcp 203.0.113.10:80"
	balancer       = "tcp " + balancerIP + ":80"
)

// Cells that many rows share.
var (
	// Pods keep their address on the way to a ClusterIP; who is no pod must get
	// the answer back through the node, so it is masqueraded.
	toPodB = cells{"pod-b saw pod-a", "pod-b saw pod-c", "pod-b saw node-1", "pod-b saw node-1"}
	// Through the process each client is its node's proxy.
	proxyToPodB = cells{"pod-b saw node-1", "pod-b saw node-2", "pod-b saw node-1", "pod-b saw node-1"}
	// What enters the cluster on node-1, whoever sends it.
	throughNode1 = cells{"pod-b saw node-1", "pod-b saw node-1", "pod-b saw node-1", "pod-b saw node-1"}
	throughNode2 = cells{"pod-b saw node-2", "pod-b saw node-2", "pod-b saw node-2", "pod-b saw node-2"}
	// The Service is not ours: who is asked is the real owner of its address.
	notOurs = cells{"balancer saw pod-a", "balancer saw pod-c", "balancer saw node-1", "balancer saw client"}
)

// everywhere is for what no mode does differently.
func everywhere(c cells) map[string]cells { return map[string]cells{kernel: c, "userspace": c} }

// byMode is for what only the process does differently.
func byMode(inKernel, inProcess cells) map[string]cells {
	return map[string]cells{kernel: inKernel, "userspace": inProcess}
}

// withIPVS adds what only ipvs mode does differently. There an address has one
// list of endpoints for all who ask, and none means that it refuses.
func withIPVS(expected map[string]cells, inIPVS cells) map[string]cells {
	expected["ipvs"] = inIPVS
	return expected
}

func addressRows() []row {
	podB := slice(endpoint("pod-b"))
	udp := withPorts(slice(endpoint("pod-b")), port("", corev1.ProtocolUDP, mainPort))
	sctp := withPorts(slice(endpoint("pod-b")), port("", corev1.ProtocolSCTP, mainPort))
	twoPorts := withPorts(slice(endpoint("pod-b")), port("main", corev1.ProtocolTCP, mainPort), port("other", corev1.ProtocolTCP, secondPort))
	both := withPorts(slice(endpoint("pod-b")), port("main", corev1.ProtocolTCP, mainPort), port("same", corev1.ProtocolUDP, secondPort))
	return []row{
		{name: "F1 ClusterIP, TCP", service: service(), slice: podB, to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{name: "F1 ClusterIP, UDP", service: service(protocol(corev1.ProtocolUDP)), slice: udp, to: "udp 10.96.0.20:80", expected: byMode(toPodB, proxyToPodB)},
		{
			name: "F1 ClusterIP, SCTP", service: service(protocol(corev1.ProtocolSCTP)), slice: sctp, to: "sctp 10.96.0.20:80",
			expected: byMode(toPodB, refused), // userspace mode is older than SCTP in Kubernetes
		},
		{
			name: "F1 NodePort, SCTP", service: service(protocol(corev1.ProtocolSCTP), nodePort), slice: sctp, to: "sctp 192.168.56.11:30080",
			expected: byMode(throughNode1, refused),
		},
		{
			name: "F1 ClusterIP, two endpoints", service: service(), slice: slice(endpoint("pod-b"), endpoint("pod-d")), to: clusterIP,
			expected: byMode(
				cells{"pod-b saw pod-a | pod-d saw pod-a", "pod-b saw pod-c | pod-d saw pod-c", "pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-1 | pod-d saw node-1"},
				cells{"pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-2 | pod-d saw node-2", "pod-b saw node-1 | pod-d saw node-1", "pod-b saw node-1 | pod-d saw node-1"}),
		},
		{name: "F1 multi-port, the first", service: service(secondPortNamed("other", corev1.ProtocolTCP, 81)), slice: twoPorts, to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{
			name: "F1 multi-port, the second", service: service(secondPortNamed("other", corev1.ProtocolTCP, 81)), slice: twoPorts, to: "tcp 10.96.0.20:81",
			expected: byMode(
				cells{"pod-b:9090 saw pod-a", "pod-b:9090 saw pod-c", "pod-b:9090 saw node-1", "pod-b:9090 saw node-1"},
				cells{"pod-b:9090 saw node-1", "pod-b:9090 saw node-2", "pod-b:9090 saw node-1", "pod-b:9090 saw node-1"}),
		},
		{name: "F1 same port on TCP and UDP: TCP", service: service(secondPortNamed("same", corev1.ProtocolUDP, 80)), slice: both, to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{
			name: "F1 same port on TCP and UDP: UDP", service: service(secondPortNamed("same", corev1.ProtocolUDP, 80)), slice: both, to: "udp 10.96.0.20:80",
			expected: byMode(
				cells{"pod-b:9090 saw pod-a", "pod-b:9090 saw pod-c", "pod-b:9090 saw node-1", "pod-b:9090 saw node-1"},
				cells{"pod-b:9090 saw node-1", "pod-b:9090 saw node-2", "pod-b:9090 saw node-1", "pod-b:9090 saw node-1"}),
		},
		{name: "F1 NodePort, TCP, where the endpoint is", service: service(nodePort), slice: podB, to: nodePortOf1, expected: everywhere(throughNode1)},
		{name: "F1 NodePort, TCP, on another node", service: service(nodePort), slice: podB, to: nodePortOf2, expected: everywhere(throughNode2)},
		{name: "F1 NodePort, UDP", service: service(protocol(corev1.ProtocolUDP), nodePort), slice: udp, to: "udp 192.168.56.11:30080", expected: everywhere(throughNode1)},
		{
			name: "F1 NodePort, on 127.0.0.1", service: service(nodePort), slice: podB, to: "tcp 127.0.0.1:30080",
			expected: map[string]cells{
				kernel:      {"refused", "refused", "pod-b saw node-1", "refused"},
				"nftables":  {"refused", "refused", "refused", "refused"}, // needs route_localnet, which this mode does without
				"ipvs":      {"refused", "refused", "refused", "refused"},
				"userspace": {"refused", "refused", "pod-b saw node-1", "refused"},
				"IPv6":      {"refused", "refused", "refused", "refused"}, // ::1 has no route_localnet
			},
		},
		{
			name: "F1 NodePort, on any address of the node", service: service(nodePort), slice: podB, to: "tcp 10.244.1.1:30080",
			expected: map[string]cells{
				kernel:      throughNode1,
				"nftables":  {"refused", "refused", "refused", "refused"}, // by default the primary address alone
				"userspace": throughNode1,
			},
		},
		{name: "F1 NodePort, nodeport-addresses, inside", flags: flags{NodePortAddresses: "192.168.56.0/24"}, service: service(nodePort), slice: podB, to: nodePortOf1, expected: everywhere(throughNode1)},
		{
			name: "F1 NodePort, nodeport-addresses, outside", flags: flags{NodePortAddresses: "192.168.56.0/24"}, service: service(nodePort), slice: podB, to: "tcp 10.244.1.1:30080",
			expected: everywhere(cells{"refused", "refused", "refused", "refused"}),
		},
		{name: "F1 LoadBalancer status IP", service: service(loadBalancer("203.0.113.10")), slice: podB, to: externalPortal, expected: everywhere(proxyToPodB)},
		{name: "F1 LoadBalancer, a second IP", service: service(loadBalancer("203.0.113.9"), loadBalancer("203.0.113.10")), slice: podB, to: externalPortal, expected: everywhere(proxyToPodB)},
		{name: "F1 LoadBalancer, its NodePort", service: service(loadBalancer("203.0.113.10")), slice: podB, to: nodePortOf2, expected: everywhere(throughNode2)},
		{name: "F1 LoadBalancer, ipMode Proxy", service: service(loadBalancer(balancerIP), ipModeProxy), slice: podB, to: balancer, expected: everywhere(notOurs)},
		{name: "F1 externalIPs", service: service(externalIP("203.0.113.10")), slice: podB, to: externalPortal, expected: everywhere(proxyToPodB)},
		{name: "F1 ExternalName ignored", service: service(externalIP(balancerIP), externalName), slice: podB, to: balancer, expected: everywhere(notOurs)},
		{name: "F1 headless ignored", service: service(externalIP(balancerIP), headless), slice: podB, to: balancer, expected: everywhere(notOurs)},
		{name: "F1 label service-proxy-name", service: service(externalIP(balancerIP), label(proxy.LabelServiceProxyName, "another")), slice: podB, to: balancer, expected: everywhere(notOurs)},
		{name: "F1 label headless on the Service means nothing", service: service(label(corev1.IsHeadlessService, "")), slice: podB, to: clusterIP, expected: byMode(toPodB, proxyToPodB)},
		{name: "F1 label headless on the slice hides it", service: service(), slice: labelled(slice(endpoint("pod-b")), corev1.IsHeadlessService), to: clusterIP, expected: everywhere(refused)},
	}
}
