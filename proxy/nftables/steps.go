package nftables

import (
	"fmt"
	"slices"
	"strings"
)

// steps lead from one set of rules to another, in three transactions, and lose
// no packet on the way.
//
// To a packet a transaction is not one moment. It meets the rules that were
// there when it entered the hook, but looks up elements as they are at the
// lookup. When the kernel commits in between, the packet still stands in an old
// rule, "numgen random mod 2 map { … }", whose map has lost its elements with
// the rule: nothing is found, nothing translated, and the client is refused.
// Likewise an element can lead such a packet into a chain of the same
// transaction, whose rules it is too old to see. (TestNoPacketIsLost makes that
// moment long.) Therefore:
//
//	prepare  makes what nothing leads to yet
//	change   leads there: elements get their verdicts, and rules are replaced,
//	         but rules with a map of their own stay behind the new ones
//	unused   is taken away a little later, when the last packet has left it
type steps struct {
	prepare, change string
	unused          leftovers
	// covered are the chains in which rules of before stand behind new ones. They
	// have no names: the kernel tells their handles.
	covered []string
	made    map[object]bool
}

// object is something in the table that has a name: a chain, a set, a map, or an
// element of one: {"element", "cluster-ips", "10.96.0.20"}.
type object struct{ kind, name, key string }

// leftovers are in the table, and no packet that comes now meets them.
type leftovers struct {
	objects []object
	rules   handles
}

// existing is what a table holds, for a proxy which has just started.
type existing struct {
	chains, sets, maps []string
	rules              handles
}

// handles of rules, by chain.
type handles map[string][]uint64

// difference is how to get from old to new. Only what has changed is touched,
// so the cost of a change does not grow with the cluster.
func difference(old, new *Ruleset) steps {
	c := &changes{table: new.table, made: map[object]bool{}}
	for _, name := range sorted(new.sets) {
		if before := old.sets[name]; before == nil || *before != *new.sets[name] {
			c.declareSet(name, new.sets[name])
		}
	}
	for _, name := range sorted(new.chains) {
		after := new.chains[name]
		switch before := old.chains[name]; {
		case before == nil:
			c.makeChain(name, after)
		case slices.Equal(before.rules, after.rules):
		case before.chooses():
			c.coverRules(name, after)
		default:
			c.replaceRules(name, after)
		}
	}
	for _, name := range sorted(old.elements) {
		c.removeElements(name, old.elements[name], new.elements[name])
	}
	for _, name := range sorted(new.elements) {
		c.addElements(name, old.elements[name], new.elements[name])
	}
	for _, name := range sorted(old.chains) {
		if new.chains[name] == nil {
			c.remove("chain", name)
		}
	}
	for _, name := range sorted(old.sets) {
		if new.sets[name] == nil {
			c.remove(old.sets[name].kind, name)
		}
	}
	return c.steps()
}

// everything is how to get to new from a table of which only the names are
// known: the new rules stand in front of all that are there, and those go
// afterwards. The clients that affinity sets remember stay remembered.
func everything(new *Ruleset, have existing) steps {
	c := &changes{table: new.table, made: map[object]bool{}, moved: len(have.chains) > 0}
	c.declarations.add(`add table %s { comment "rules for kube-proxy" ; }`, c.table)
	for _, name := range sorted(new.sets) {
		c.declareSet(name, new.sets[name])
	}
	for _, name := range sorted(new.chains) {
		if slices.Contains(have.chains, name) {
			c.coverRules(name, new.chains[name])
		} else {
			c.makeChain(name, new.chains[name])
		}
	}
	for _, name := range have.chains {
		if new.chains[name] == nil {
			c.remove("chain", name)
		}
	}
	c.emptySets("set", have.sets, new)
	c.emptySets("map", have.maps, new)
	for _, name := range sorted(new.elements) {
		c.addElements(name, nil, new.elements[name])
	}
	return c.steps()
}

// changes collects commands, by what must come before what.
type changes struct {
	table                    string
	declarations, rules      commands // prepare
	dropped, added, replaced commands // change
	unused                   []object
	covered                  []string
	made                     map[object]bool
	moved                    bool // an element gets another verdict, so prepare has to be in force before
}

// commands are lines for nft.
type commands struct{ strings.Builder }

func (c *commands) add(format string, args ...any) { fmt.Fprintf(c, format+"\n", args...) }

func (c *changes) declareSet(name string, s *set) {
	c.declarations.add("add %s %s %s { %s }", s.kind, c.table, name, s.options)
	c.made[object{kind: s.kind, name: name}] = true
}

func (c *changes) makeChain(name string, after *chain) {
	if after.options == "" {
		c.declarations.add("add chain %s %s", c.table, name)
	} else {
		c.declarations.add("add chain %s %s { %s }", c.table, name, after.options)
	}
	for _, rule := range after.rules {
		c.rules.add("add rule %s %s %s", c.table, name, rule)
	}
	c.made[object{kind: "chain", name: name}] = true
}

func (c *changes) replaceRules(name string, after *chain) {
	c.made[object{kind: "rules", name: name}] = true
	c.replaced.add("flush chain %s %s", c.table, name)
	for _, rule := range after.rules {
		c.replaced.add("add rule %s %s %s", c.table, name, rule)
	}
}

// coverRules puts the new rules in front of the old ones: the last first.
func (c *changes) coverRules(name string, after *chain) {
	for _, rule := range slices.Backward(after.rules) {
		c.replaced.add("insert rule %s %s %s", c.table, name, rule)
	}
	c.covered = append(c.covered, name)
}

func (c *changes) remove(kind, name string) {
	c.unused = append(c.unused, object{kind: kind, name: name})
}

// emptySets empties the sets that stay, and removes the others.
func (c *changes) emptySets(kind string, names []string, new *Ruleset) {
	for _, name := range names {
		if new.sets[name] == nil {
			c.remove(kind, name)
		} else if !strings.HasPrefix(name, affinityPrefix) {
			c.dropped.add("flush %s %s %s", kind, c.table, name)
		}
	}
}

// removeElements: an element with a verdict must go before its key can have
// another. One without, of a set, may still be asked for by a packet that has
// been translated: the hairpin connections.
func (c *changes) removeElements(name string, before, after map[string]string) {
	for _, key := range sorted(before) {
		switch {
		case after[key] == before[key]:
		case before[key] == key:
			c.unused = append(c.unused, object{"element", name, key})
		default:
			c.dropped.add("delete element %s %s { %s }", c.table, name, key)
			c.moved = c.moved || after[key] != ""
		}
	}
}

// addElements adds those that are new, all in one command.
func (c *changes) addElements(name string, before, after map[string]string) {
	var fresh []string
	for _, key := range sorted(after) {
		if before[key] != after[key] {
			fresh = append(fresh, after[key])
			c.made[object{"element", name, key}] = true
		}
	}
	if len(fresh) > 0 {
		c.added.add("add element %s %s { %s }", c.table, name, strings.Join(fresh, ", "))
	}
}

func (c *changes) steps() steps {
	s := steps{
		prepare: c.declarations.String() + c.rules.String(),
		change:  c.dropped.String() + c.added.String() + c.replaced.String(),
		unused:  leftovers{objects: c.unused},
		covered: c.covered, made: c.made,
	}
	if !c.moved { // who is led to what is new was refused before: one transaction will do
		s.prepare, s.change = "", s.prepare+s.change
	}
	return s
}

// add adds those of another change.
func (l *leftovers) add(other leftovers) {
	l.objects = append(l.objects, other.objects...)
	for chain, rules := range other.rules {
		if l.rules == nil {
			l.rules = handles{}
		}
		l.rules[chain] = append(l.rules[chain], rules...)
	}
}

// any tells whether one of some objects is among them, or stands before them: a
// chain's rules which are all replaced.
func (l *leftovers) any(made map[object]bool) bool {
	for chain := range l.rules {
		if made[object{kind: "rules", name: chain}] {
			return true
		}
	}
	return slices.ContainsFunc(l.objects, func(o object) bool { return made[o] })
}

// removal is the transaction that takes them away: first what refers to others.
func (l *leftovers) removal(table string) string {
	var rules, chains, elements, rest commands
	for _, chain := range sorted(l.rules) {
		for _, handle := range l.rules[chain] {
			rules.add("delete rule %s %s handle %d", table, chain, handle)
		}
	}
	for _, o := range l.objects {
		switch o.kind {
		case "chain":
			chains.add("flush chain %s %s", table, o.name)
			rest.add("delete chain %s %s", table, o.name)
		case "element":
			elements.add("delete element %s %s { %s }", table, o.name, o.key)
		}
	}
	for _, o := range l.objects {
		if o.kind == "set" || o.kind == "map" {
			rest.add("delete %s %s %s", o.kind, table, o.name)
		}
	}
	return rules.String() + chains.String() + elements.String() + rest.String()
}
