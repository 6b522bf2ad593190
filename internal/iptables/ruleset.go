package iptables

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Ruleset is all that somebody wants to have in the kernel.
type Ruleset struct {
	Tables []*Table
}

// Table is the chains of one table, in the order they were declared.
type Table struct {
	Name   string
	order  []string
	chains map[string][]string // rules without "-A CHAIN"
}

// NewTable is a table without chains.
func NewTable(name string) *Table { return &Table{Name: name, chains: map[string][]string{}} }

// Declare makes chains exist, with or without rules.
func (t *Table) Declare(chains ...string) {
	for _, c := range chains {
		if _, ok := t.chains[c]; !ok {
			t.order = append(t.order, c)
			t.chains[c] = nil
		}
	}
}

// Add appends a rule to a chain. Its parts are joined; empty ones are left out.
func (t *Table) Add(chain string, parts ...string) {
	t.Declare(chain)
	t.chains[chain] = append(t.chains[chain], Rule(parts...))
}

// AddOnce appends a rule, unless the chain has just got the same.
func (t *Table) AddOnce(chain, rule string) {
	t.Declare(chain)
	if rules := t.chains[chain]; len(rules) == 0 || rules[len(rules)-1] != rule {
		t.chains[chain] = append(rules, rule)
	}
}

// Take takes over the chains of another table.
func (t *Table) Take(other *Table) {
	for _, chain := range other.order {
		t.Declare(chain)
		t.chains[chain] = other.chains[chain]
	}
}

// Chain is the rules of a chain.
func (t *Table) Chain(name string) []string { return t.chains[name] }

// Rules is the number of rules in all chains of a table.
func (t *Table) Rules() int {
	n := 0
	for _, rules := range t.chains {
		n += len(rules)
	}
	return n
}

// Count is how much of a table a text writes.
type Count struct{ Chains, Rules int }

// Written counts the chains and rules in a text for Restore, by table.
func Written(text []byte) map[string]Count {
	counts, table := map[string]Count{}, ""
	for line := range bytes.Lines(text) {
		c := counts[table]
		switch line[0] {
		case '*':
			table = string(bytes.TrimSpace(line[1:]))
			continue
		case ':':
			c.Chains++
		case '-':
			if line[1] == 'A' {
				c.Rules++
			}
		}
		counts[table] = c
	}
	return counts
}

// Difference is what iptables-restore --noflush needs to get from old to new:
// for each chain that is new or has changed its declaration, which empties it,
// and its rules; then the chains which are gone. It is empty when nothing has
// changed. Each table is one transaction: no packet meets half of a change.
func Difference(old, new *Ruleset) []byte {
	var text bytes.Buffer
	for i, after := range new.Tables {
		before := old.Tables[i]
		changed, gone := changedChains(before, after), missing(before.order, after)
		if len(changed)+len(gone) > 0 {
			writeTable(&text, after, changed, gone, "")
		}
	}
	return text.Bytes()
}

// Everything is the text for a kernel of which saved (iptables-save, by table)
// is known: all chains anew, the jumps to them, and without the chains of our
// own (isOwn) which a proxy before us has left. What packets meet changes in one
// transaction a table, so that a restarted proxy interrupts nobody; before it
// come those with chains to which nothing leads yet.
func Everything(new *Ruleset, saved map[string]string, list []Jump, isOwn func(chain string) bool) []byte {
	var text bytes.Buffer
	for _, table := range new.Tables {
		known := Chains(saved[table.Name])
		batches, rest := freshFirst(table, known)
		for _, chains := range batches {
			writeTable(&text, table, chains, nil, "")
		}
		stale := slices.DeleteFunc(known, func(chain string) bool { return !isOwn(chain) })
		writeTable(&text, table, rest, missing(stale, table), insertJumps(table.Name, saved[table.Name], list))
	}
	return text.Bytes()
}

// writeTable declares chains, which empties them, so that nothing refers to
// those that go; a jump needs its target, so jumps come after.
func writeTable(text *bytes.Buffer, after *Table, changed, gone []string, jumps string) {
	fmt.Fprintf(text, "*%s\n", after.Name)
	for _, chain := range slices.Concat(changed, gone) {
		fmt.Fprintf(text, ":%s - [0:0]\n", chain)
	}
	text.WriteString(jumps)
	for _, chain := range changed {
		for _, r := range after.chains[chain] {
			fmt.Fprintf(text, "-A %s %s\n", chain, r)
		}
	}
	for _, chain := range gone {
		fmt.Fprintf(text, "-X %s\n", chain)
	}
	text.WriteString("COMMIT\n")
}

// Rule joins the parts that are there.
func Rule(parts ...string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(parts), func(part string) bool { return part == "" }), " ")
}

func changedChains(before, after *Table) []string {
	var changed []string
	for _, chain := range after.order {
		if old, ok := before.chains[chain]; !ok || !slices.Equal(old, after.chains[chain]) {
			changed = append(changed, chain)
		}
	}
	return changed
}

// missing are those chains which a table has not.
func missing(chains []string, table *Table) []string {
	var gone []string
	for _, chain := range chains {
		if _, ok := table.chains[chain]; !ok {
			gone = append(gone, chain)
		}
	}
	return gone
}

// Chains reads the declared chains out of one table of iptables-save.
func Chains(saved string) []string {
	var chains []string
	for line := range strings.Lines(saved) {
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			chains = append(chains, name)
		}
	}
	return chains
}

// Jump is a rule in one of the kernel's own chains that leads to ours.
type Jump struct {
	Table, Chain string
	Rule         string // as iptables-save prints it, without "-A CHAIN"
}

// insertJumps writes what brings the jumps of one table to the beginning of
// their chains, given what iptables-save says is there. Chains whose jumps all
// exist are left alone: another program may have put its own rules before.
func insertJumps(table, saved string, list []Jump) string {
	var text strings.Builder
	present := map[string]bool{}
	for line := range strings.Lines(saved) {
		present[strings.TrimSpace(line)] = true
	}
	byChain := map[string][]string{}
	var order []string
	for _, j := range list {
		if j.Table != table {
			continue
		}
		if byChain[j.Chain] == nil {
			order = append(order, j.Chain)
		}
		byChain[j.Chain] = append(byChain[j.Chain], j.Rule)
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
