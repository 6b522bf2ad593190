package ipvs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// Backend is ipvs mode. It remembers what it has applied, so that a change
// costs what has changed; after a failure or a restart it asks the kernel what
// is there and changes only the rest.
type Backend struct {
	cfg     Config
	kernel  *kernel
	applied *state
}

// state is what the kernel has: a plan, and real servers which still drain.
type state struct {
	*Plan
	own []netip.Addr // the node's addresses the plan was made for
}

// New prepares the node, after a look whether its kernel can do this at all.
func New(cfg Config) (*Backend, error) {
	if err := Supported(); err != nil {
		return nil, err
	}
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(k.knows(cfg.family(), cfg.Scheduler), setSysctls(cfg.StrictARP), k.setTimeouts(cfg)); err != nil {
		return nil, err
	}
	return &Backend{cfg: cfg, kernel: k}, nil
}

// Sync makes what the kernel has be what the snapshot means.
func (b *Backend) Sync(ctx context.Context, snapshot *proxy.Snapshot) error {
	began := time.Now()
	_, own, err := addresses(b.cfg.family())
	if err != nil {
		return err
	}
	if _, err := proxy.NodePortAddresses(b.cfg.NodePortAddresses); err != nil {
		return err
	}
	want, have, full := plan(snapshot, b.cfg, own), b.applied, b.applied == nil
	if full {
		if have, err = b.prepare(ctx, want); err != nil {
			return err
		}
	}
	b.applied = nil // until we know better
	steps, err := b.apply(ctx, have.Plan, want)
	if err != nil {
		return err
	}
	servers := have.Servers.after(want.Servers)
	want.Servers = servers
	b.applied = &state{Plan: want, own: own}
	if steps > 0 || full {
		slog.Info("rules applied", "full", full, "servicePorts", len(snapshot.Ports), "endpoints", snapshot.Endpoints,
			"virtualServers", len(servers), "steps", steps, "elapsed", time.Since(began).Round(time.Microsecond))
	}
	return b.deleteDrained()
}

// prepare makes what every plan needs, and reads what is there of an earlier
// one. The rules, which are few, are written anew.
func (b *Backend) prepare(ctx context.Context, want *Plan) (*state, error) {
	if err := errors.Join(ensureDevice(), restoreSets(ctx, b.cfg.family().createSets())); err != nil {
		return nil, err
	}
	saved := map[string]string{}
	for _, table := range want.Rules.Tables {
		text, err := b.cfg.family().tool.Save(ctx, table.Name)
		if err != nil {
			return nil, err
		}
		saved[table.Name] = string(text)
	}
	none := func(string) bool { return false } // no chain of ours comes and goes
	if err := b.cfg.family().tool.Restore(ctx, iptables.Everything(want.Rules, saved, jumps(), none)); err != nil {
		return nil, fmt.Errorf("apply rules: %w", err)
	}
	have, err := b.read(ctx)
	if err != nil {
		return nil, err
	}
	have.Rules = want.Rules
	return have, nil
}

// read asks the kernel for everything but the rules.
func (b *Backend) read(ctx context.Context) (*state, error) {
	servers, err := b.kernel.servers(b.cfg.family(), b.cfg.ExcludeCIDRs)
	if err != nil {
		return nil, err
	}
	bound, own, err := addresses(b.cfg.family())
	if err != nil {
		return nil, err
	}
	text, err := saveSets(ctx)
	if err != nil {
		return nil, err
	}
	return &state{&Plan{Servers: servers, Addresses: bound, Sets: b.cfg.family().parseSets(text)}, own}, nil
}

// apply takes the steps from one plan to the next, in such an order that a
// packet never meets half of a Service: what tells the rules about an address
// comes before its virtual server, that before the address itself, and all go
// the other way round.
func (b *Backend) apply(ctx context.Context, have, want *Plan) (steps int, err error) {
	addSets, delSets := b.cfg.family().setSteps(have.Sets, want.Sets)
	come, gone := serverSteps(have.Servers, want.Servers)
	rules := iptables.Difference(have.Rules, want.Rules)
	for _, stage := range []func() error{
		func() error { return restoreSets(ctx, addSets) },
		func() error { return b.restoreRules(ctx, rules) },
		func() error { return b.kernel.do(come) },
		func() error { return bind(have.Addresses, want.Addresses) },
		func() error { return unbind(have.Addresses, want.Addresses) },
		func() error { return b.kernel.do(gone) },
		func() error { return restoreSets(ctx, delSets) },
	} {
		if err := stage(); err != nil {
			return 0, err
		}
	}
	for _, s := range slices.Concat(come, gone) {
		slog.Debug("ipvs step", "step", s.String())
	}
	return len(come) + len(gone) + strings.Count(addSets+delSets, "\n"), nil
}

func (b *Backend) restoreRules(ctx context.Context, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	if err := b.cfg.family().tool.Restore(ctx, text); err != nil {
		return fmt.Errorf("apply rules: %w", err)
	}
	return nil
}

// deleteDrained deletes real servers of weight 0 whose last connection is over.
func (b *Backend) deleteDrained() error {
	for _, at := range b.applied.Servers.drains() {
		gone, err := b.kernel.drained(at)
		for _, real := range gone {
			slog.Debug("real server drained", "virtualServer", at.element(), "realServer", real)
			delete(b.applied.Servers[at].real, real)
		}
		if err != nil {
			b.applied = nil
			return err
		}
	}
	return nil
}

// Check deletes what has drained, and compares what the kernel has with what
// was applied; the node's own addresses, on which node ports answer, may have
// changed as well.
func (b *Backend) Check(ctx context.Context) (bool, error) {
	if b.applied == nil {
		return false, nil
	}
	if err := b.deleteDrained(); err != nil {
		return false, err
	}
	have, err := b.read(ctx)
	if err != nil {
		return false, err
	}
	intact, err := b.rulesIntact(ctx)
	if err != nil {
		return false, err
	}
	intact = intact && b.applied.equals(have)
	if !intact {
		b.applied = nil
	}
	return intact, nil
}

// equals compares all but the rules, and tells what differs.
func (s *state) equals(have *state) bool {
	same := true
	for what, equal := range map[string]bool{
		"the node's addresses":   slices.Equal(have.own, s.own),
		"addresses of " + device: maps.Equal(have.Addresses, s.Addresses),
		"virtual servers":        have.Servers.String() == s.Servers.String(),
		"sets":                   ipv4.save(have.Sets) == ipv4.save(s.Sets), // whatever their names
	} {
		if !equal {
			slog.Info("changed by somebody else", "what", what)
			same = false
		}
	}
	return same
}

// rulesIntact tells whether every chain has as many rules as were written, and
// every jump is there.
func (b *Backend) rulesIntact(ctx context.Context) (bool, error) {
	for _, table := range b.applied.Rules.Tables {
		saved, err := b.cfg.family().tool.Save(ctx, table.Name)
		if err != nil {
			return false, err
		}
		text := string(saved)
		if strings.Count(text, "\n-A KUBE-") != table.Rules() {
			return false, nil
		}
		for _, j := range jumps() {
			if j.Table == table.Name && !strings.Contains(text, "\n-A "+j.Chain+" "+j.Rule+"\n") {
				return false, nil
			}
		}
	}
	return true, nil
}
