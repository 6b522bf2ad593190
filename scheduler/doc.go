// Package scheduler is the kube-scheduler: it gives every pod a node, one pod after the other.
//
// A pod without spec.nodeName waits. For each such pod the scheduler
//
//	filters   leaves out the nodes on which the pod cannot run, each with its reason   filter*.go
//	scores    the others: where does it run best?                                      score.go
//	binds     writes the node's name into the pod                                      bind.go
//
// That is all. The kubelet of that node sees "a pod of mine" in its watch and starts it; when something
// later makes the choice a bad one, nobody moves the pod.
//
// Filters and scores are pure functions of the pod and a Snapshot: the nodes, and the pods on each. The
// snapshot contains pods whose binding is still on its way (they are assumed to arrive), so the next pod
// can be placed at once.
//
// A pod which fits nowhere is told so, in words like
//
//	0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu.
//
// as event FailedScheduling and in its condition PodScheduled, and waits until the cluster changes in a way
// which may help: a node appears or changes, a pod goes away. See queue.go.
//
// A pod of higher priority need not wait for that: others make room for it.         preemption.go, evict.go
//
// Not here: volumes and resource claims.
package scheduler
