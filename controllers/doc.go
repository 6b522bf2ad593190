// Package controllers is the kube-controller-manager: one process, some twenty loops, each of which
// makes one sentence about the cluster true.
//
// "A Deployment of three replicas has a ReplicaSet of three replicas." "A ReplicaSet of three replicas
// has three pods." "A Service has the addresses of its ready pods in an EndpointSlice." None of the
// loops knows the others; they meet in the API. `kubectl create deployment` changes one object, and
// the rest follows like dominoes:
//
//	Deployment ─▶ ReplicaSet ─▶ Pods ─▶ (scheduler, kubelet) ─▶ Pod ready ─▶ EndpointSlice ─▶ (proxy, dns)
//
// # How to read a controller
//
// The list in controllers.go is the table of contents. Every file has the same three parts:
//
//  1. A function named after the controller registers what it watches, and how a changed object leads
//     to the key which has to be looked at (a pod leads to the Services which select it).
//  2. A sync method reads the present state from caches, calls
//  3. a pure function (plan…, desired…) which says what is missing, and carries that out.
//
// The pure function is where the knowledge is, and what the tests are about.
//
// # Caches are late
//
// A controller reads from caches which a watch keeps up to date, typically some milliseconds behind.
// One that creates three pods and looks at once sees none, and would create three more. The cure is in
// ownwrites.go: a key waits until the cache has seen what was last written for it.
package controllers
