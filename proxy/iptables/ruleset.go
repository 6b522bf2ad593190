package iptables

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Ruleset is all that iptables mode wants to have in the kernel.
type Ruleset struct {
	Tables []*Table
}

// Table is the chains of one table, in the order they were declared.
type Table struct {
	Name   string
	order  []string
	chains map[string][]string // rules without "-A CHAIN"
}

func newTable(name string) *Table { return &Table{Name: name, chains: map[string][]string{}} }

// declare makes chains exist, with or without rules.
func (t *Table) declare(chains ...string) {
	for _, c := range chains {
		if _, ok := t.chains[c]; !ok {
			t.order = append(t.order, c)
			t.chains[c] = nil
		}
	}
}

func (t *Table) add(chain string, parts ...string) {
	t.declare(chain)
	t.chains[chain] = append(t.chains[chain], rule(parts))
}

// addOnce is add for a rule which several ports of one Service share.
func (t *Table) addOnce(chain string, parts ...string) {
	if r := rule(parts); !slices.Contains(t.chains[chain], r) {
		t.add(chain, parts...)
	}
}

// Rules is the number of rules in all chains of a table.
func (t *Table) Rules() int {
	n := 0
	for _, rules := range t.chains {
		n += len(rules)
	}
	return n
}

// difference is what iptables-restore --noflush needs to get from old to new:
// for each chain that is new or has changed its declaration, which empties it,
// and its rules; then the chains which are gone. It is empty when nothing has
// changed. Each table is one transaction: no packet meets half of a change.
func difference(old, new *Ruleset) []byte {
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

// everything is the text for a kernel of which saved (iptables-save, by table)
// is known: all chains anew, the jumps to them, and without the chains which a
// proxy before us has left. It is still one transaction a table, so that a
// restarted proxy interrupts nobody.
func everything(new *Ruleset, saved map[string]string, list []jump) []byte {
	var text bytes.Buffer
	for _, table := range new.Tables {
		stale := slices.DeleteFunc(chainsIn(saved[table.Name]), func(chain string) bool { return !isOwn(chain) })
		writeTable(&text, table, table.order, missing(stale, table), insertJumps(table.Name, saved[table.Name], list))
	}
	return text.Bytes()
}

// writeTable declares chains, which empties them, so that nothing refers to
// those that go; a jump needs its target, so jumps come after.
func writeTable(text *bytes.Buffer, after *Table, changed, gone []string, jumps string) {
	fmt.Fprintf(text, "*%s\n", after.Name)
	for _, chain := range append(slices.Clone(changed), gone...) {
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

// chainsIn reads the declared chains out of one table of iptables-save.
func chainsIn(saved string) []string {
	var chains []string
	for line := range strings.Lines(saved) {
		if name, ok := strings.CutPrefix(line, ":"); ok {
			name, _, _ = strings.Cut(name, " ")
			chains = append(chains, name)
		}
	}
	return chains
}
