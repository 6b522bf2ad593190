package userspace

// The chains of userspace mode, with the names kube-proxy gave them. They lead
// what is for a Service to the port of 0.0.0.0 where the proxy waits for it.
const (
	portalsContainer  = "KUBE-PORTALS-CONTAINER"  // nat, from PREROUTING: from pods and outside
	portalsHost       = "KUBE-PORTALS-HOST"       // nat, from OUTPUT: from the node itself
	nodePortContainer = "KUBE-NODEPORT-CONTAINER" // nat, from PREROUTING, for addresses of the node
	nodePortHost      = "KUBE-NODEPORT-HOST"      // nat, from OUTPUT, for addresses of the node
	rejectChain       = "KUBE-PORTALS-REJECT"     // filter: what has no endpoint
	canaryChain       = "KUBE-PROXY-CANARY"       // gone when somebody flushed the table
)
