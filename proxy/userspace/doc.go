// Package userspace carries Services the oldest way: the proxy itself accepts
// every connection and makes one of its own to an endpoint.
//
// It is slow, and the endpoint sees the node instead of the client; but it can
// do what no rule can: when an endpoint refuses or does not answer, it tries
// the next one, and the client notices nothing. Endpoints take turns.
//
// names.go, rules.go (snapshot to rules, pure), sync.go and cleanup.go are as
// in the other modes; balance.go chooses endpoints, portal.go is the door of a
// Service port, tcp.go and udp.go carry what comes in.
package userspace
