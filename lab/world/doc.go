// Package world is the inside of a lab: PID 1 of the world, PID 1 of each
// node, and the egress process, with all that makes namespaces into machines.
//
// It is apart from package lab, and in a binary of its own, because these five
// processes live as long as the lab and need nothing of Kubernetes: 3 MB each,
// where the podarium binary takes 15 only to begin.
//
// Reading order: config.go (what can be chosen, and the address plan),
// components.go (which process runs where with which flags), world.go,
// switch.go, node.go, mounts.go, supervise.go (PID 1's work), egress.go.
package world
