// Package iptables carries Services with iptables rules, the ones kube-proxy
// writes: the same chains, names, comments, order and marks.
//
// README.md draws the chains with one Service worked through. names.go has the
// names, rules.go turns a snapshot into rules (pure), ruleset.go compares two
// sets of rules and writes what iptables-restore needs to get from one to the
// other (pure), sync.go applies that.
package iptables
