// Package clusterip chooses the addresses of Services.
//
// The range, 10.96.0.0/12 for example, has two bands:
//
//	10.96.0.0                network address, never used
//	10.96.0.1   … .0.255     low band: for addresses that people write into manifests
//	10.96.1.0   … 10.111.255.254   high band: for those the server chooses
//	10.111.255.255           broadcast address, never used
//
// The server takes from the low band only when the high one is full. So
// `clusterIP: 10.96.0.10` in a manifest rarely meets an address that was
// handed out at random before (KEP-3070).
//
// An address is taken when there is an IPAddress object of its name. The
// Service and its IPAddress are written in one etcd transaction, which fails
// when the IPAddress exists: two API servers cannot hand out the same address,
// and a crash cannot leak one.
package clusterip
