package iptables

import "github.com/podarium/podarium/internal/iptables"

// jumps are the ways from the kernel's chains to ours, in the order they must
// stand at the beginning of each. The filter table's only look at new
// connections, which keeps the cost of all others away.
func jumps() []iptables.Jump {
	portals := comment("kubernetes service portals") + " -j " + servicesChain
	newPortals := "-m conntrack --ctstate NEW " + portals
	newExternal := "-m conntrack --ctstate NEW " + comment("kubernetes externally-visible service portals") + " -j " + externalServicesChain
	newFirewall := "-m conntrack --ctstate NEW " + comment("kubernetes load balancer firewall") + " -j " + proxyFirewallChain
	var list []iptables.Jump
	for _, j := range [][3]string{
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
	} {
		list = append(list, iptables.Jump{Table: j[0], Chain: j[1], Rule: j[2]})
	}
	return list
}
