package iptables

import (
	"fmt"
	"slices"
	"strings"
)

// jump is a rule in one of the kernel's own chains that leads to ours.
type jump struct {
	table, chain string
	rule         string // as iptables-save prints it, without "-A CHAIN"
}

// jumps are the ways from the kernel's chains to ours, in the order they must
// stand at the beginning of each. The filter table's only look at new
// connections, which keeps the cost of all others away.
func jumps() []jump {
	portals := comment("kubernetes service portals") + " -j " + servicesChain
	newPortals := "-m conntrack --ctstate NEW " + portals
	newExternal := "-m conntrack --ctstate NEW " + comment("kubernetes externally-visible service portals") + " -j " + externalServicesChain
	newFirewall := "-m conntrack --ctstate NEW " + comment("kubernetes load balancer firewall") + " -j " + proxyFirewallChain
	return []jump{
		{"filter", "INPUT", "-j " + firewallChain},
		{"filter", "INPUT", newFirewall},
		{"filter", "INPUT", comment("kubernetes health check service ports") + " -j " + nodePortsChain},
		{"filter", "INPUT", newExternal},
		{"filter", "FORWARD", newFirewall},
		{"filter", "FORWARD", comment("kubernetes forwarding rules") + " -j " + forwardChain},
		{"filter", "FORWARD", newPortals},
		{"filter", "FORWARD", newExternal},
		{"filter", "OUTPUT", "-j " + firewallChain},
		{"filter", "OUTPUT", newFirewall},
		{"filter", "OUTPUT", newPortals},
		{"nat", "PREROUTING", portals},
		{"nat", "OUTPUT", portals},
		{"nat", "POSTROUTING", comment("kubernetes postrouting rules") + " -j " + postroutingChain},
	}
}

// insertJumps writes what brings the jumps of one table to the beginning of
// their chains, given what iptables-save says is there. Chains whose jumps all
// exist are left alone: another program may have put its own rules before.
func insertJumps(table, saved string, list []jump) string {
	var text strings.Builder
	present := map[string]bool{}
	for line := range strings.Lines(saved) {
		present[strings.TrimSpace(line)] = true
	}
	byChain := map[string][]string{}
	var order []string
	for _, j := range list {
		if j.table != table {
			continue
		}
		if byChain[j.chain] == nil {
			order = append(order, j.chain)
		}
		byChain[j.chain] = append(byChain[j.chain], j.rule)
	}
	for _, chain := range order {
		rules := byChain[chain]
		if !slices.ContainsFunc(rules, func(r string) bool { return !present["-A "+chain+" "+r] }) {
			continue
		}
		for i, r := range rules {
			if present["-A "+chain+" "+r] {
				fmt.Fprintf(&text, "-D %s %s\n", chain, r)
			}
			fmt.Fprintf(&text, "-I %s %d %s\n", chain, i+1, r)
		}
	}
	return text.String()
}
