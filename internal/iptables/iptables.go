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

// Save returns one table in iptables-save's form.
func Save(ctx context.Context, table string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "iptables-save", "-t", table)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("iptables-save -t %s: %w: %s", table, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// lockWait is how long (seconds) to wait for the lock that legacy iptables
// takes, so that two writers do not fail each other.
const lockWait = "5"

// Restore applies text, one transaction a table. Chains which the text does
// not declare stay as they are (--noflush), those it declares are emptied
// first. On an error, which names the line, nothing of a table was applied.
func Restore(ctx context.Context, text []byte) error {
	cmd := exec.CommandContext(ctx, "iptables-restore", "--noflush", "--wait", lockWait)
	cmd.Stdin = bytes.NewReader(text)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return &RestoreError{Stderr: strings.TrimSpace(stderr.String()), Text: text, err: err}
	}
	return nil
}

// RestoreError is a refusal by iptables-restore with what it was given.
type RestoreError struct {
	Stderr string
	Text   []byte
	err    error
}

func (e *RestoreError) Error() string {
	return fmt.Sprintf("iptables-restore: %v: %s", e.err, e.Stderr)
}

func (e *RestoreError) Unwrap() error { return e.err }
