package iptables

import (
	"slices"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// parts are the rules as they are made: what is always there, and what each
// Service port adds. From one snapshot to the next only the ports that have
// changed are looked at, so that a change costs the same in a cluster of any
// size. A port's own chains are not kept, for planPort says them again; its rules
// in shared chains are, since such a chain is written as a whole.
type parts struct {
	cfg      Config
	node     node
	large    bool
	snapshot *proxy.Snapshot // of which they are made
	shared   map[*proxy.Port][]sharedRule
	rules    map[string]int     // how many there are, by table
	sizes    map[tableChain]int // of shared chains
}

func isLarge(snapshot *proxy.Snapshot) bool { return snapshot.Endpoints > largeCluster }

// newParts are those of a snapshot, and all rules.
func newParts(snapshot *proxy.Snapshot, cfg Config, node node) (*parts, *iptables.Ruleset) {
	p := &parts{
		cfg: cfg, node: node, large: isLarge(snapshot), snapshot: snapshot,
		shared: make(map[*proxy.Port][]sharedRule, len(snapshot.Ports)), rules: map[string]int{}, sizes: map[tableChain]int{},
	}
	all := planFixed(cfg, node)
	shared := map[tableChain]bool{{"nat", servicesChain}: true}
	for _, port := range snapshot.Ports {
		rules := planPort(port, cfg, node, p.large)
		p.shared[port] = rules.shared
		all["nat"].Take(rules.own)
		for _, r := range rules.shared {
			shared[r.chain] = true
		}
	}
	p.share(snapshot, shared, all)
	whole := &iptables.Ruleset{}
	for _, name := range tables {
		p.rules[name] = all[name].Rules()
		whole.Tables = append(whole.Tables, all[name])
	}
	return p, whole
}

// change makes the parts be those of a snapshot, and returns what gets the rules
// there.
func (p *parts) change(snapshot *proxy.Snapshot, node node) []byte {
	before, after := emptyTables(), emptyTables()
	moved := map[sharedRule]int{}
	gone, come := proxy.Changed(p.snapshot, snapshot)
	p.snapshot = snapshot
	for _, port := range gone {
		before["nat"].Take(planPort(port, p.cfg, p.node, p.large).own)
		count(moved, p.shared[port], -1)
		delete(p.shared, port)
	}
	for _, port := range come {
		rules := planPort(port, p.cfg, p.node, p.large)
		after["nat"].Take(rules.own)
		count(moved, rules.shared, 1)
		p.shared[port] = rules.shared
	}
	changed := map[tableChain]bool{{"nat", servicesChain}: !slices.Equal(p.node.nodePorts, node.nodePorts)}
	for rule, n := range moved {
		changed[rule.chain] = changed[rule.chain] || n != 0
	}
	p.node = node
	for chain := range changed {
		if changed[chain] {
			p.rules[chain.table] -= p.sizes[chain]
		}
	}
	p.share(snapshot, changed, after)
	old, new := &iptables.Ruleset{}, &iptables.Ruleset{}
	for _, name := range tables {
		p.rules[name] += after[name].Rules() - before[name].Rules()
		old.Tables, new.Tables = append(old.Tables, before[name]), append(new.Tables, after[name])
	}
	return iptables.Difference(old, new)
}

func emptyTables() map[string]*iptables.Table {
	all := map[string]*iptables.Table{}
	for _, name := range tables {
		all[name] = iptables.NewTable(name)
	}
	return all
}

func count(rules map[sharedRule]int, some []sharedRule, n int) {
	for _, r := range some {
		rules[r] += n
	}
}

// share writes some of the shared chains, with the rules of all ports. Two ports
// of a Service have one health check.
func (p *parts) share(snapshot *proxy.Snapshot, chains map[tableChain]bool, into map[string]*iptables.Table) {
	for c, wanted := range chains {
		if wanted {
			into[c.table].Declare(c.chain)
		}
	}
	for _, port := range snapshot.Ports {
		for _, r := range p.shared[port] {
			if chains[r.chain] {
				into[r.chain.table].AddOnce(r.chain.chain, r.rule)
			}
		}
	}
	if chains[tableChain{"nat", servicesChain}] {
		nodePortsJump(into["nat"], p.cfg, p.node)
	}
	for c, wanted := range chains {
		if wanted {
			p.sizes[c] = len(into[c.table].Chain(c.chain))
		}
	}
}
