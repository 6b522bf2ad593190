package proxy

import "context"

// Applier brings snapshots to the node, one after the other: the backend's
// rules, and then what rules cannot reach, the kernel's memory of flows.
type Applier struct {
	backend  Backend
	before   *Snapshot
	draining []flow // to endpoints which get nothing new but still answer
}

// NewApplier is an Applier which has applied nothing yet.
func NewApplier(backend Backend) *Applier { return &Applier{backend: backend} }

// Apply makes the node be as the snapshot says.
func (a *Applier) Apply(ctx context.Context, snapshot *Snapshot) error {
	if err := a.backend.Sync(ctx, snapshot); err != nil {
		return err
	}
	a.draining = drainingFlows(snapshot)
	forgetFlows(staleFlows(a.before, snapshot), a.draining)
	a.before = snapshot
	return nil
}

// forgetIdle forgets the flows that drain and have become idle.
func (a *Applier) forgetIdle() { forgetFlows(nil, a.draining) }
