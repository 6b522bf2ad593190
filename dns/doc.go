// Package dns answers names of the cluster: the Kubernetes DNS-Based Service
// Discovery specification, version 1.1.0 (github.com/kubernetes/dns).
//
// A pod that asks for "foo" has this /etc/resolv.conf:
//
//	search default.svc.cluster.local svc.cluster.local cluster.local
//	nameserver 10.96.0.10
//	options ndots:5
//
// so its resolver asks 10.96.0.10 for foo.default.svc.cluster.local. That
// address is the ClusterIP of Service kube-dns: the kernel on the pod's node
// rewrites it to a pod of this package, which looks into its index and answers
// with foo's ClusterIP, and the pod connects. The lookup is itself a journey
// pod → Service → pod.
//
// Data flow, and the order to read in: watch.go (Services, EndpointSlices and
// Namespaces from the API) → model.go (what is kept of them) → cluster.go (which
// Service has changed) → records.go (what one Service means in DNS) → query.go
// (the shapes a name may have) → answer.go (records, NODATA or NXDOMAIN) →
// packed.go (answers as bytes, made when the Service changes) → index.go and
// table.go (read by queries without a lock) → wire.go (question to answer) →
// udp.go, tcp.go and server.go (the sockets, and what must be composed).
// reverse.go is for addresses, forward.go, upstream.go, cache.go, loop.go and
// resolvconf.go for names which are not the cluster's, completion.go walks
// search paths. README.md follows one lookup from a pod and back.
package dns
