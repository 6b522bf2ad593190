// Package store keeps the cluster's objects in etcd and is the only package
// that knows etcd.
//
// It has three ideas and no more:
//
//   - One write. Modify reads an object, lets the caller say what shall be
//     there instead, and puts that into etcd in a transaction which only
//     succeeds when nobody wrote in between. Create, update, patch and delete
//     are all this one compare-and-swap; so is the allocation of a ClusterIP,
//     which claims a second key (/registry/ipaddresses/10.96.0.10) in the same
//     transaction as the Service that owns it.
//
//   - One watch. A single etcd watch on /registry/ feeds a copy of everything
//     in memory. Lists, gets and any number of API watches are answered from
//     this copy, so etcd's work does not grow with the number of clients. What
//     this server itself writes goes into the copy as soon as etcd has confirmed
//     it, if its turn has come (order.go).
//
//   - One revision. etcd counts every write to any key: 1, 2, 3… An object's
//     resourceVersion is the revision that wrote it; a list's is the revision
//     the copy has reached. A reader who must see everything that was written
//     before asks etcd for its revision and waits until the copy is there.
//
// Keys are upstream's (/registry/pods/default/web, /registry/services/specs/…,
// /registry/minions/node-1), values JSON, so that `etcdctl get --prefix
// /registry/` shows the whole cluster in plain text.
package store
