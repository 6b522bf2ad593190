package proxy

import "net/netip"

// LocalPods tells packets of pods from all others (--detect-local-mode): by where they
// come from, or by the interface at which they come in. The zero value cannot tell.
type LocalPods struct {
	Range           netip.Prefix // ClusterCIDR: of all pods; NodeCIDR: of this node's
	Bridge          string       // BridgeInterface: cni0
	InterfacePrefix string       // InterfaceNamePrefix: veth
}

// Known says that there is a way to tell.
func (l LocalPods) Known() bool {
	return l.Range.IsValid() || l.Bridge != "" || l.InterfacePrefix != ""
}

// IPTables is the condition as iptables writes it, which "! " in front of it reverses.
func (l LocalPods) IPTables() string {
	switch {
	case l.Bridge != "":
		return "-i " + l.Bridge
	case l.InterfacePrefix != "":
		return "-i " + l.InterfacePrefix + "+"
	default:
		return "-s " + l.Range.String()
	}
}

// NFTables is the condition as nft writes it, for packets which are a pod's or which
// are not. ip is ip or ip6.
func (l LocalPods) NFTables(ip string, local bool) string {
	not := ""
	if !local {
		not = "!= "
	}
	switch {
	case l.Bridge != "":
		return "iifname " + not + `"` + l.Bridge + `"`
	case l.InterfacePrefix != "":
		return "iifname " + not + `"` + l.InterfacePrefix + `*"`
	default:
		return ip + " saddr " + not + l.Range.String()
	}
}
