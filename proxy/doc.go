// Package proxy makes Services reachable on one node: what kube-proxy does.
//
// It works in three steps which never mix:
//
//	watch      Services and EndpointSlices change the Model        (watch.go, records.go, proxier.go, model.go)
//	snapshot   the Model says, for each Service port, which         (snapshot.go, topology.go)
//	           endpoints a packet may go to, on this very node
//	plan+apply a Backend turns the snapshot into rules (pure text)  (iptables/rules.go)
//	           and applies what has changed                        (iptables/sync.go)
//
// IPv4 and IPv6 are two proxiers beside each other, each with a Model, a Backend
// and tables of its own. Beside the rules stand what the kernel remembers of UDP
// flows (conntrack.go) and what others ask: whether this node carries Services
// (health.go), has an endpoint of a load balancer's (healthcheck.go), and how it
// goes (metrics.go). Package matrix tests all modes with the same packets, and
// `make compare` holds iptables and nftables mode against kube-proxy itself, in
// situations which dice make (package compare).
//
// A Service without a selector, its endpoints made by hand, works the same:
// the proxy knows no pods, only addresses.
package proxy
