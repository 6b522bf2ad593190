// Package matrix tests what every proxy mode must do, with real packets: each
// row is a feature of Services, each column somebody who asks, and each cell
// says who answers and which client address it saw.
//
// The test's network (network_test.go):
//
//	             client 198.51.100.7, outside the cluster
//	               │
//	             world 198.51.100.1, 192.168.56.1; balancer 203.0.113.99
//	          ┌────┴─────┐  sends 10.96.0.0/12 and 203.0.113.0/24 to node-1
//	node-1 .11          node-2 .12       each runs the real backend (node_test.go)
//	  │ cni0 10.244.1.1    │ cni0 10.244.2.1
//	  ├ pod-a 10.244.1.2   ├ pod-c 10.244.2.2
//	  └ pod-b 10.244.1.3   └ pod-d 10.244.2.3
//
// Every host has IPv6 addresses as well, fd00::10:244:1:3 where the other is
// 10.244.1.3, and the rows are tried in both families (family_test.go).
//
// The rows are in rows_*_test.go. A cell that is missing fails the test, so a
// new mode or a new row must say everything.
package matrix
