package nftables

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Ruleset is all that nftables mode wants to have in its table.
type Ruleset struct {
	table  string // "ip kube-proxy"
	chains map[string]*chain
	sets   map[string]*set
	// elements of the sets, by set and key, as text with their verdicts.
	elements map[string]map[string]string
}

// chain is a chain's declaration, such as its hook, and its rules.
type chain struct {
	options string
	rules   []string
}

// set is the declaration of a set or a map.
type set struct {
	kind    string // "set" or "map"
	options string
}

func newRuleset(table string) *Ruleset {
	return &Ruleset{table: table, chains: map[string]*chain{}, sets: map[string]*set{}, elements: map[string]map[string]string{}}
}

// chain declares a chain.
func (r *Ruleset) chain(name, options string) {
	if r.chains[name] == nil {
		r.chains[name] = &chain{options: options}
	}
}

func (r *Ruleset) add(name, rule string) {
	r.chain(name, "")
	r.chains[name].rules = append(r.chains[name].rules, rule)
}

func (r *Ruleset) set(kind, name, options string) {
	if r.sets[name] == nil {
		r.sets[name] = &set{kind: kind, options: options}
	}
}

// element puts an element into a set, or with a verdict into a map.
func (r *Ruleset) element(name, key, verdict string) {
	text := key
	if verdict != "" {
		text += " : " + verdict
	}
	r.put(name, key, text)
}

// commented is element for maps whose elements carry the Service's name.
func (r *Ruleset) commented(name, key, comment, verdict string) {
	r.put(name, key, fmt.Sprintf("%s comment %q : %s", key, comment, verdict))
}

// put puts an element into a set that may be declared in another Ruleset.
func (r *Ruleset) put(name, key, text string) {
	if r.elements[name] == nil {
		r.elements[name] = map[string]string{}
	}
	r.elements[name][key] = text
}

// existing is what a table holds by name, for a proxy which has just started.
type existing struct {
	chains, sets, maps []string
}

// difference is the transaction that gets from old to new; empty when nothing
// has changed. Only elements that have changed are touched, so the cost of a
// change does not grow with the cluster.
func difference(old, new *Ruleset) string {
	t := &transaction{table: new.table}
	changed := []string{}
	for _, name := range sorted(new.chains) {
		if before := old.chains[name]; before == nil || !slices.Equal(before.rules, new.chains[name].rules) {
			changed = append(changed, name)
		}
	}
	t.declare(new, func(name string) bool { return old.sets[name] == nil }, changed)
	for _, name := range sorted(old.elements) {
		t.removeElements(name, old.elements[name], new.elements[name])
	}
	for _, name := range sorted(old.sets) {
		if new.sets[name] == nil {
			t.gone("delete %s %s %s", old.sets[name].kind, t.table, name)
		}
	}
	for _, name := range sorted(old.chains) {
		if new.chains[name] == nil {
			t.flush("flush chain %s %s", t.table, name)
			t.gone("delete chain %s %s", t.table, name)
		}
	}
	for _, name := range sorted(new.elements) {
		t.addElements(name, old.elements[name], new.elements[name])
	}
	t.addRules(new, changed)
	return t.String()
}

// everything is the transaction for a table of which only the names are known:
// all anew, and without what a proxy before us has left. It is still one
// transaction: no packet meets half of it. The clients that affinity sets
// remember stay remembered.
func everything(new *Ruleset, have existing) string {
	t := &transaction{table: new.table}
	t.first(`add table %s { comment "rules for kube-proxy" ; }`, t.table)
	t.declare(new, func(string) bool { return true }, sorted(new.chains))
	for _, name := range have.chains {
		t.flush("flush chain %s %s", t.table, name)
		if new.chains[name] == nil {
			t.gone("delete chain %s %s", t.table, name)
		}
	}
	for kind, names := range map[string][]string{"set": have.sets, "map": have.maps} {
		for _, name := range names {
			if new.sets[name] == nil {
				t.gone("delete %s %s %s", kind, t.table, name)
			} else if !strings.HasPrefix(name, affinityPrefix) {
				t.flush("flush %s %s %s", kind, t.table, name)
			}
		}
	}
	for _, name := range sorted(new.elements) {
		t.addElements(name, nil, new.elements[name])
	}
	t.addRules(new, sorted(new.chains))
	return t.String()
}

// transaction orders commands so that what is referred to is there before, and
// nothing is removed that is still referred to.
type transaction struct {
	table                                            string
	declarations, flushes, elements, rules, removals []string
}

func (t *transaction) first(format string, args ...any) {
	t.declarations = append(t.declarations, fmt.Sprintf(format, args...))
}

func (t *transaction) flush(format string, args ...any) {
	t.flushes = append(t.flushes, fmt.Sprintf(format, args...))
}

func (t *transaction) gone(format string, args ...any) {
	t.removals = append(t.removals, fmt.Sprintf(format, args...))
}

// declare names the sets that are new and the chains that change, which are
// emptied, in front of everything.
func (t *transaction) declare(new *Ruleset, isNewSet func(string) bool, changed []string) {
	for _, name := range sorted(new.sets) {
		if isNewSet(name) {
			t.first("add %s %s %s { %s }", new.sets[name].kind, t.table, name, new.sets[name].options)
		}
	}
	for _, name := range changed {
		options := ""
		if o := new.chains[name].options; o != "" {
			options = " { " + o + " }"
		}
		t.first("add chain %s %s%s", t.table, name, options)
		t.flush("flush chain %s %s", t.table, name)
	}
}

func (t *transaction) removeElements(name string, before, after map[string]string) {
	for _, key := range sorted(before) {
		if after[key] != before[key] {
			t.elements = append(t.elements, fmt.Sprintf("delete element %s %s { %s }", t.table, name, key))
		}
	}
}

func (t *transaction) addElements(name string, before, after map[string]string) {
	for _, key := range sorted(after) {
		if before[key] != after[key] {
			t.elements = append(t.elements, fmt.Sprintf("add element %s %s { %s }", t.table, name, after[key]))
		}
	}
}

func (t *transaction) addRules(new *Ruleset, changed []string) {
	for _, name := range changed {
		for _, rule := range new.chains[name].rules {
			t.rules = append(t.rules, fmt.Sprintf("add rule %s %s %s", t.table, name, rule))
		}
	}
}

// String is what `nft -f` reads.
func (t *transaction) String() string {
	var b strings.Builder
	for _, part := range [][]string{t.declarations, t.flushes, t.elements, t.rules, t.removals} {
		for _, command := range part {
			b.WriteString(command + "\n")
		}
	}
	return b.String()
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
