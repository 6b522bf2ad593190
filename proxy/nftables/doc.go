// Package nftables carries Services with one nftables table, the one
// kube-proxy writes: table ip kube-proxy, with its maps, chains and names.
//
// The difference to iptables mode is what a packet costs: one lookup in a
// verdict map finds its Service, however many there are, and one more, with a
// random number, its endpoint.
//
// The files are those of its sister: names.go, rules.go (snapshot to rules,
// pure), ruleset.go and steps.go (two sets of rules to transactions which lose no
// packet, pure), parts.go (which ports to compare at all), kernel.go (what is
// there), sync.go, cleanup.go. README.md draws the table with one Service worked
// through.
package nftables
