package nftables

import (
	"maps"

	"github.com/podarium/podarium/proxy"
)

// parts are a table as it is made: what is always there, and what each Service
// port adds. From one snapshot to the next only the ports that have changed are
// looked at, so that a change costs the same in a cluster of any size. What a
// port adds is not kept, for planPort says it again.
//
// Chains belong to one port. Elements may belong to several, as the ports of a
// Service share its ClusterIP; they go with the last one.
type parts struct {
	cfg      Config
	scale    scale
	fixed    *Ruleset
	snapshot *proxy.Snapshot // of which it is made
	uses     map[element]use
	before   map[element]string // what was said of the elements a change touches; "" nothing
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

// newParts is a table with all of a snapshot.
func newParts(fixed *Ruleset, snapshot *proxy.Snapshot, cfg Config) *parts {
	p := &parts{cfg: cfg, scale: scaleOf(snapshot), fixed: fixed, snapshot: snapshot, uses: map[element]use{}}
	for _, port := range snapshot.Ports {
		p.claim(planPort(port, cfg, p.scale))
	}
	p.before = nil
	return p
}

// change makes the parts be those of a snapshot, and returns the steps which
// lead there.
func (p *parts) change(snapshot *proxy.Snapshot) steps {
	old, new := newRuleset(p.fixed.table), newRuleset(p.fixed.table)
	p.before = map[element]string{}
	gone, come := proxy.Changed(p.snapshot, snapshot)
	p.snapshot = snapshot
	for _, port := range gone {
		rules := planPort(port, p.cfg, p.scale)
		old.addChains(rules)
		p.release(rules)
	}
	for _, port := range come {
		rules := planPort(port, p.cfg, p.scale)
		new.addChains(rules)
		p.claim(rules)
	}
	for e, text := range p.before {
		if text != "" {
			old.put(e.set, e.key, text)
		}
		if now := p.uses[e]; now.ports > 0 {
			new.put(e.set, e.key, now.text)
		}
	}
	p.before = nil
	return difference(old, new)
}

func (p *parts) claim(rules *Ruleset) {
	for set, elements := range rules.elements {
		for key, text := range elements {
			e := element{set, key}
			u := p.uses[e]
			p.note(e, u)
			p.clash = p.clash || u.ports > 0 && u.text != text
			p.uses[e] = use{text, u.ports + 1}
		}
	}
}

func (p *parts) release(rules *Ruleset) {
	for set, elements := range rules.elements {
		for key := range elements {
			e := element{set, key}
			u := p.uses[e]
			p.note(e, u)
			if u.ports--; u.ports > 0 {
				p.uses[e] = u
			} else {
				delete(p.uses, e)
			}
		}
	}
}

// note remembers what was said of an element before it was touched first.
func (p *parts) note(e element, before use) {
	if p.before == nil {
		return
	}
	if _, twice := p.before[e]; !twice {
		p.before[e] = before.text
	}
}

// whole is all of the table.
func (p *parts) whole() *Ruleset {
	all := newRuleset(p.fixed.table)
	all.addChains(p.fixed)
	for set, elements := range p.fixed.elements {
		all.elements[set] = maps.Clone(elements)
	}
	for _, port := range p.snapshot.Ports {
		all.addChains(planPort(port, p.cfg, p.scale))
	}
	for e, u := range p.uses {
		all.put(e.set, e.key, u.text)
	}
	return all
}
