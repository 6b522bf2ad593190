// Package compare holds our proxy against kube-proxy itself, built from its
// published source (kubeproxy/go.mod says which), in situations nobody thought
// of: `make compare`.
//
// Dice create, change and delete Services and EndpointSlices of one API server.
// Four proxies watch them, ours and kube-proxy in iptables and in nftables mode,
// each in a network namespace that looks like node-1 (192.168.56.11, zone z1, pods
// 10.244.1.0/24). After each step their rules must be equal, of both IP families,
// and they must answer on the same health check node ports.
// The seed of the dice repeats everything, and chooses the proxies' flags:
//
//	make compare                                        a new seed
//	make compare ARGS='-seed 7 -steps 40 -modes nftables'
//
// The dice make (cluster_test.go, service_test.go, slice_test.go) and the tests of
// them are in `make test`. What needs kube-proxy has the build tag kubeproxy.
//
// How one knows that a proxy has seen a step: its last two requests mark a Service
// and its EndpointSlices with the step's number. Events of one kind come in order,
// so rules with both marks know all before them. Nobody guesses how long to wait.
//
// What is not made, for kube-proxy itself does not say what comes of it:
//
//   - one address in two slices of a Service at once, or in two Services at once
//     (external IP, or IP of the load balancer): the order of a Go map decides
//   - one IP twice in the status of a load balancer: kube-proxy's iptables mode
//     writes its rules twice, we once
//
// What is made equal before it is compared, besides counters and order
// (proxytest): nftables mode of kube-proxy keeps chains for a while which it has
// emptied, and nothing leads to them; and when an address and port go from one
// Service port to another and the verdict stays, reject for example, so does the
// comment with the old one's name.
//
// Our API server gives ClusterIPs of IPv4 only. So that Services of two families,
// or of IPv6 alone, come about too, their second family is written into etcd
// behind its back; see requests_test.go.
package compare
