package proxy

import (
	"context"

	corev1 "k8s.io/api/core/v1"
)

// Applier brings snapshots of one IP family to the node, one after the other:
// the backend's rules, and then what rules cannot reach, the kernel's memory of
// flows and the health check node ports.
type Applier struct {
	family   corev1.IPFamily
	backend  Backend
	checks   *HealthChecks
	full     bool // the next sync is: the backend knows nothing, or nothing that is true
	before   *Snapshot
	draining []flow // to endpoints which get nothing new but still answer
}

// NewApplier is an Applier which has applied nothing yet.
func NewApplier(family corev1.IPFamily, backend Backend, checks *HealthChecks) *Applier {
	return &Applier{family: family, backend: backend, checks: checks, full: true}
}

// Apply makes the node be as the snapshot says. ctx ends what it leaves
// running.
func (a *Applier) Apply(ctx context.Context, snapshot *Snapshot) error {
	if err := a.backend.Sync(ctx, snapshot); err != nil {
		a.full = true
		return err
	}
	a.full = false
	a.draining = drainingFlows(snapshot)
	forgetFlows(a.family, staleFlows(a.before, snapshot), a.draining)
	a.checks.sync(ctx, a.family, snapshot)
	a.before = snapshot
	return nil
}

// Settle lets the backend take away what it has left for packets on their way.
func (a *Applier) Settle(ctx context.Context) error {
	backend, ok := a.backend.(Settler)
	if !ok {
		return nil
	}
	err := backend.Settle(ctx)
	a.full = a.full || err != nil
	return err
}

// forgetIdle forgets the flows that drain and have become idle.
func (a *Applier) forgetIdle() { forgetFlows(a.family, nil, a.draining) }
