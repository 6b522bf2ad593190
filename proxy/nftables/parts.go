package nftables

import (
	"maps"

	"github.com/podarium/podarium/proxy"
)

// parts are a table as it is made: what is always there, and what each Service
// port adds. From one snapshot to the next only the ports that have changed are
// looked at, so that a change costs the same in a cluster of any size.
//
// Chains belong to one port. Elements may belong to several, as the ports of a
// Service share its ClusterIP; they go with the last one.
type parts struct {
	fixed *Ruleset
	ports map[*proxy.Port]*Ruleset
	uses  map[element]use
	// clash: two ports say different things of an element, such as two Services
	// with the same external IP and port. The last one in order is right, and
	// that is only known when all are looked at.
	clash bool
}

// element is one of a set or map.
type element struct{ set, key string }

// use is what is said of an element, and by how many ports.
type use struct {
	text  string
	ports int
}

func newParts(fixed *Ruleset, snapshot *proxy.Snapshot, cfg Config) *parts {
	p := &parts{fixed: fixed, ports: map[*proxy.Port]*Ruleset{}, uses: map[element]use{}}
	p.change(snapshot, cfg)
	return p
}

// change makes the parts be those of a snapshot, and returns the transaction
// which leads there.
func (p *parts) change(snapshot *proxy.Snapshot, cfg Config) string {
	before, after := newRuleset(p.fixed.table), newRuleset(p.fixed.table)
	touched := map[element]string{} // what was said before; "" nothing
	stays := make(map[*proxy.Port]bool, len(snapshot.Ports))
	for _, port := range snapshot.Ports {
		stays[port] = true
	}
	for port, rules := range p.ports {
		if !stays[port] {
			before.addChains(rules)
			p.release(rules, touched)
			delete(p.ports, port)
		}
	}
	for _, port := range snapshot.Ports {
		if p.ports[port] == nil {
			rules := planPort(port, cfg)
			after.addChains(rules)
			p.claim(rules, touched)
			p.ports[port] = rules
		}
	}
	for e, text := range touched {
		if text != "" {
			before.put(e.set, e.key, text)
		}
		if now := p.uses[e]; now.ports > 0 {
			after.put(e.set, e.key, now.text)
		}
	}
	return difference(before, after)
}

func (p *parts) claim(rules *Ruleset, touched map[element]string) {
	for set, elements := range rules.elements {
		for key, text := range elements {
			e := element{set, key}
			u := p.uses[e]
			note(touched, e, u)
			p.clash = p.clash || u.ports > 0 && u.text != text
			p.uses[e] = use{text, u.ports + 1}
		}
	}
}

func (p *parts) release(rules *Ruleset, touched map[element]string) {
	for set, elements := range rules.elements {
		for key := range elements {
			e := element{set, key}
			u := p.uses[e]
			note(touched, e, u)
			if u.ports--; u.ports > 0 {
				p.uses[e] = u
			} else {
				delete(p.uses, e)
			}
		}
	}
}

// note remembers what was said of an element before it was touched first.
func note(touched map[element]string, e element, before use) {
	if _, twice := touched[e]; !twice {
		touched[e] = before.text
	}
}

// whole is all of the table.
func (p *parts) whole() *Ruleset {
	all := newRuleset(p.fixed.table)
	all.addChains(p.fixed)
	for set, elements := range p.fixed.elements {
		all.elements[set] = maps.Clone(elements)
	}
	for _, rules := range p.ports {
		all.addChains(rules)
	}
	for e, u := range p.uses {
		all.put(e.set, e.key, u.text)
	}
	return all
}

// addChains takes over another's chains and declarations of sets.
func (r *Ruleset) addChains(other *Ruleset) {
	maps.Copy(r.chains, other.chains)
	maps.Copy(r.sets, other.sets)
}
