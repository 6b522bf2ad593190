// Package iptables runs iptables-save and iptables-restore, and finds the text
// that gets from one set of rules to another (ruleset.go).
//
// Rules go in and out as text, for the text is the documented interface: a
// reader checks it against the man page, and compares it with what the tool
// prints on any machine.
package iptables

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Tool is the programs of one IP family, by the beginning of their names.
type Tool string

// The two families have tables of their own.
const (
	IPv4 Tool = "iptables"
	IPv6 Tool = "ip6tables"
)

// Works tells whether the programs are there and the kernel has what they need.
func (t Tool) Works(ctx context.Context) bool {
	_, err := t.Save(ctx, "nat")
	return err == nil
}

// Save returns one table in iptables-save's form.
func (t Tool) Save(ctx context.Context, table string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, string(t)+"-save", "-t", table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s-save -t %s: %w: %s", t, table, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// List returns the rules of one chain in iptables-save's form, and whether there
// is such a chain. With 5000 Services it takes milliseconds where Save takes
// seconds.
func (t Tool) List(ctx context.Context, table, chain string) (rules string, known bool, err error) {
	cmd := exec.CommandContext(ctx, string(t), "--wait", lockWait, "-t", table, "-S", chain)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	for _, unknown := range []string{ // iptables is not localized
		"No chain/target/match by that name",
		fmt.Sprintf("chain `%s' in table `%s' is incompatible", chain, table), // over nftables, 1.8.9
	} {
		if err != nil && strings.Contains(stderr.String(), unknown) {
			return "", false, nil
		}
	}
	if err != nil {
		return "", false, fmt.Errorf("%s -t %s -S %s: %w: %s", t, table, chain, err, strings.TrimSpace(stderr.String()))
	}
	return string(out), true, nil
}

// lockWait is how long (seconds) to wait for the lock that legacy iptables
// takes, so that two writers do not fail each other.
const lockWait = "5"

// Restore applies text, one transaction a table. Chains which the text does
// not declare stay as they are (--noflush), those it declares are emptied
// first. On an error, which names the line, nothing of a table was applied.
func (t Tool) Restore(ctx context.Context, text []byte) error {
	cmd := exec.CommandContext(ctx, string(t)+"-restore", "--noflush", "--wait", lockWait)
	cmd.Stdin = bytes.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return &RestoreError{Tool: t, Stderr: strings.TrimSpace(stderr.String()), Text: text, err: err}
	}
	return nil
}

// RestoreError is a refusal by iptables-restore with what it was given.
type RestoreError struct {
	Tool   Tool
	Stderr string
	Text   []byte
	err    error
}

func (e *RestoreError) Error() string {
	return fmt.Sprintf("%s-restore: %v: %s", e.Tool, e.err, e.Stderr)
}

func (e *RestoreError) Unwrap() error { return e.err }
