// Package proxy makes Services reachable on one node: what kube-proxy does.
//
// It works in three steps which never mix:
//
//	watch      Services and EndpointSlices change the Model        (proxy.go, model.go)
//	snapshot   the Model says, for each Service port, which         (snapshot.go, topology.go)
//	           endpoints a packet may go to, on this very node
//	plan+apply a Backend turns the snapshot into rules (pure text)  (iptables/rules.go)
//	           and applies what has changed                        (iptables/sync.go)
//
// A Service without a selector, its endpoints made by hand, works the same:
// the proxy knows no pods, only addresses.
package proxy
