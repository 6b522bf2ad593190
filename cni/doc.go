// Package cni gives a pod its network: it is a CNI plugin (CNI spec 1.1,
// github.com/containernetworking/cni/blob/main/SPEC.md) and knows nothing of
// Kubernetes.
//
// A container runtime makes an empty network namespace and runs the plugin
// with CNI_COMMAND=ADD. Afterwards the wiring on node-1 looks like this:
//
//	pod's namespace            the node's namespace
//	eth0 10.244.1.5/24 ──────── veth1c2f0a9b ─┐
//	  default via 10.244.1.1                  ├─ cni0 10.244.1.1/24 ── routes ── eth0
//	eth0 10.244.1.6/24 ──────── veth83b61d20 ─┘   (a bridge)
//
// A frame to a pod on the same node is switched by cni0; everything else goes
// to 10.244.1.1, that is to the node itself, which routes it: to another
// node's pods (routes.go) or, with the node's address as source, to the
// outside (masquerade.go).
//
// Reading order: plugin.go (the verbs), ipam.go (which address), bridge.go,
// veth.go (the cable), routes.go, vxlan.go and masquerade.go (beyond the node;
// these are not the plugin's but are called by whoever knows all nodes).
package cni
