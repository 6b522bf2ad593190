package nftables

import (
	"fmt"
	"maps"
	"reflect"
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

// chooses tells whether a rule of the chain has a map or a set of its own,
// written within the rule: numgen random mod 2 map { 0 : 10.244.1.3 . 80, … }.
func (c *chain) chooses() bool {
	return slices.ContainsFunc(c.rules, func(rule string) bool { return strings.Contains(rule, "{") })
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

// addChains takes over another's chains and declarations of sets.
func (r *Ruleset) addChains(other *Ruleset) {
	maps.Copy(r.chains, other.chains)
	maps.Copy(r.sets, other.sets)
}

// equal tells whether another wants the same.
func (r *Ruleset) equal(other *Ruleset) bool { return reflect.DeepEqual(r, other) }

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
