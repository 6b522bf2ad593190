package iptables

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/podarium/podarium/internal/iptables"
)

// Cleanup removes all rules and chains of iptables mode from every table; what
// others have made stays. KUBE-FIREWALL goes too, with its jumps: on our nodes
// nobody else makes it.
func (b *Backend) Cleanup(ctx context.Context) error { return Cleanup(ctx) }

// Cleanup is the Backend's, for a node where none runs.
func Cleanup(ctx context.Context) error {
	var text bytes.Buffer
	for _, table := range tables {
		saved, err := iptables.Save(ctx, table)
		if err != nil {
			return err
		}
		removeTable(&text, table, string(saved))
	}
	if text.Len() == 0 {
		return nil
	}
	if err := iptables.Restore(ctx, text.Bytes()); err != nil {
		return fmt.Errorf("remove rules: %w", err)
	}
	return nil
}

// removeTable deletes the jumps to our chains first, then empties the chains
// (they refer to each other), then removes them.
func removeTable(text *bytes.Buffer, table, saved string) {
	var chains []string
	for _, chain := range chainsIn(saved) {
		if strings.HasPrefix(chain, "KUBE-") {
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
		if !ok || strings.HasPrefix(rest, "KUBE-") || !strings.Contains(rest, " -j KUBE-") {
			continue
		}
		text.WriteString("-D " + rest)
	}
	for _, chain := range chains {
		fmt.Fprintf(text, "-X %s\n", chain)
	}
	text.WriteString("COMMIT\n")
}
