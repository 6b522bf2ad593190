package cni

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/podarium/podarium/internal/iptables"
)

// SyncForward lets pods' packets through a node whose firewall forwards nothing
// by default (Docker, for one, sets the policy DROP for all that is not its own).
// The jump stands at the end of FORWARD: what somebody forbids by a rule before
// it stays forbidden.
func SyncForward(ctx context.Context, pods netip.Prefix) error {
	rules, _, err := iptables.IPv4.List(ctx, "filter", "FORWARD")
	if err != nil {
		return err
	}
	text := forwardRules(pods, strings.Contains(rules, forwardJump+"\n"))
	if err := iptables.IPv4.Restore(ctx, []byte(text)); err != nil {
		return fmt.Errorf("write forward rules: %w", err)
	}
	return nil
}

// forwardRules is the text for iptables-restore --noflush: our own chain anew,
// and the jump to it unless it is there.
func forwardRules(pods netip.Prefix, jumps bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*filter\n:%s - [0:0]\n", forwardChain)
	if !jumps {
		fmt.Fprintln(&b, forwardJump)
	}
	fmt.Fprintf(&b, "-A %s -s %s -m comment --comment \"from pods\" -j ACCEPT\n", forwardChain, pods.Masked())
	fmt.Fprintf(&b, "-A %s -d %s -m comment --comment \"to pods\" -j ACCEPT\n", forwardChain, pods.Masked())
	b.WriteString("COMMIT\n")
	return b.String()
}

// forwardJump is written as iptables-save prints it, so that it can be found.
const forwardJump = "-A FORWARD -m comment --comment \"podarium: pods\" -j " + forwardChain
