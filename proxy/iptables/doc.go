// Package iptables carries Services with iptables rules, the ones kube-proxy
// writes: the same chains, names, comments, order and marks.
//
// README.md draws the chains with one Service worked through. names.go has the
// names, rules.go turns a Service port into rules (pure), parts.go knows which
// ports have changed and what iptables-restore needs to get from one snapshot to
// the next (pure), sync.go applies that. Comparing and writing sets of rules is
// internal/iptables.
package iptables
