// Package lab is a three-node cluster on one Linux machine.
//
// A node is a set of namespaces (network, mount, hostname, process ids), and
// all nodes live inside one outer set, the world:
//
//	the machine ── podarium up | down | node exec …
//	   │ 127.0.0.1:PORT, a listener handed down to node-1's kube-apiserver
//	   └─ world      PID 1 "podarium-world": switch, nodes, nothing else
//	        │ switch0 192.168.56.1/24, a Linux bridge
//	        ├─ node-1  PID 1 "node-init": eth0 192.168.56.11
//	        │            kube-apiserver kube-controller-manager kube-scheduler
//	        │            kubelet kube-proxy, and the pods' containers
//	        ├─ node-2  eth0 192.168.56.12: kubelet kube-proxy, pods
//	        └─ node-3  eth0 192.168.56.13: kubelet kube-proxy, pods
//
// This shape gives the lab its three best properties. Taking it down is one
// kill: when the world's PID 1 ends, the kernel ends every process in it, and
// with the last process of a namespace go its interfaces, routes, rules and
// mounts. Killing a node's PID 1 is a node crash, as real as pulling the plug.
// And nothing of the lab can touch the machine's own interfaces, routes, rules
// or sysctls, for none of its processes is in the machine's network namespace
// (the egress process is, which only dials for image pulls).
//
// Reading order: world/ (the namespaces from the inside), up.go (the start, step
// by step), identities.go, images.go, addons.go, ready.go (what a start
// consists of), exec.go, status.go, down.go, demo/ (the story told on it).
package lab
