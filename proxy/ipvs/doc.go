// Package ipvs carries Services with the kernel's own load balancer, as
// kube-proxy's ipvs mode does: every address of a Service is an address of the
// interface kube-ipvs0, so that packets to it come in; there a virtual server
// takes them and gives them to real servers, the endpoints. What a load
// balancer cannot do (masquerade, who may use an address) a handful of iptables
// rules do, which look addresses up in ipsets; their number does not grow with
// the Services.
//
// README.md draws it with one Service worked through. The files are those of
// its sisters: names.go, rules.go (snapshot to plan, pure), chains.go (the few
// rules, pure), servers.go and sets.go (two plans to the steps between them,
// pure), kernel.go (reads and changes what the kernel has), sync.go,
// cleanup.go.
package ipvs
