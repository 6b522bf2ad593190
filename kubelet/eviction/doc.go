// Package eviction decides when a node is short of memory, disk or process IDs, and which pod has to go
// so that the others live on ("node-pressure eviction", as upstream's kubelet does it). It measures
// nothing and ends nothing; what it is told and what it answers are values:
//
//	flags                     --Parse-->  Policy      the thresholds (thresholds.go)
//	Policy, Observations      --Judge-->  Verdict     conditions of the node; what is to be reclaimed (pressure.go)
//	Candidates, Signal        --Rank--->  Candidates  who goes first (rank.go)
//	Threshold, Candidate      --Message-> text        what the pod's status says (message.go)
//
// Beside the node's there are limits of a pod's own: sizeLimit of an emptyDir, limits of ephemeral-storage
// (limits.go). The kernel watches none of these.
package eviction
