package iptables

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
)

// Remove deletes every chain whose name begins with one of the prefixes, and the
// jumps to them, from the given tables; all else stays.
func (t Tool) Remove(ctx context.Context, tables []string, prefixes ...string) error {
	var text bytes.Buffer
	for _, table := range tables {
		saved, err := t.Save(ctx, table)
		if err != nil {
			return err
		}
		removeTable(&text, table, string(saved), prefixes)
	}
	if text.Len() == 0 {
		return nil
	}
	if err := t.Restore(ctx, text.Bytes()); err != nil {
		return fmt.Errorf("remove rules: %w", err)
	}
	return nil
}

// removeTable deletes the jumps to our chains first, then empties the chains
// (they refer to each other), then removes them.
func removeTable(text *bytes.Buffer, table, saved string, prefixes []string) {
	ours := func(name string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	}
	var chains []string
	for _, chain := range Chains(saved) {
		if ours(chain) {
			chains = append(chains, chain)
		}
	}
	if len(chains) == 0 {
		return
	}
	fmt.Fprintf(text, "*%s\n", table)
	for _, chain := range chains {
		fmt.Fprintf(text, ":%s - [0:0]\n", chain)
	}
	for line := range strings.Lines(saved) {
		rest, ok := strings.CutPrefix(line, "-A ")
		if !ok || ours(rest) || !ours(target(rest)) {
			continue
		}
		text.WriteString("-D " + rest)
	}
	for _, chain := range chains {
		fmt.Fprintf(text, "-X %s\n", chain)
	}
	text.WriteString("COMMIT\n")
}

// target is where a rule jumps to, "" when it does not.
func target(rule string) string {
	_, after, _ := strings.Cut(rule, " -j ")
	name, _, _ := strings.Cut(strings.TrimSpace(after), " ")
	return name
}
