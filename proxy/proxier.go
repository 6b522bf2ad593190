package proxy

import (
	"context"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
)

// After a failed sync the next comes by itself, after a pause that doubles.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
)

// settleAfter is how long after a sync the backend may tidy up.
const settleAfter = 100 * time.Millisecond

// drainEvery is how often idle flows to endpoints that drain are looked for.
const drainEvery = time.Second

// proxier carries the Services of one IP family. It owns its Model: all changes
// of it, and all syncs, happen in loop.
type proxier struct {
	family  corev1.IPFamily
	backend Backend
	model   *Model
	applier *Applier
	health  *health
	metrics *metrics
	period  time.Duration
	pause   time.Duration // at least, between two syncs

	events   chan change // in the order they were seen
	seenAll  bool        // what existed at the start has been seen
	due      bool        // a sync, even if the model has not changed
	retry    time.Duration
	drain    *time.Timer
	settle   *time.Timer // runs when settling
	settling bool
	wasFull  bool             // the last sync, or one since the backend has settled
	waiting  map[*changes]int // events since the last sync
	made     []time.Time      // when they were made in the cluster
}

// change of a model; kind is nil for those that are not counted.
type change struct {
	kind  *changes
	count int // of objects
	apply func()
}

func newProxier(cfg Config, family corev1.IPFamily, health *health, metrics *metrics) (*proxier, error) {
	p := &proxier{
		family: family, backend: cfg.Backends[family], model: NewModel(cfg.Node, family),
		health: health, metrics: metrics, period: cfg.SyncPeriod, pause: cfg.MinSyncPeriod,
		events: make(chan change, 256), waiting: map[*changes]int{}, due: true,
	}
	p.applier = NewApplier(family, p.backend, NewHealthChecks(ofFamily(cfg.NodePortAddresses, family), health.healthy))
	if own, ok := p.backend.(prometheus.Collector); ok { // what only this mode can count
		if err := metrics.registry.Register(own); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *proxier) send(ctx context.Context, c change) {
	select {
	case p.events <- c:
	case <-ctx.Done():
	}
}

// loop applies changes as they come. While a sync runs, changes queue up in
// events; all that wait are taken together into the next one, so a burst of
// changes costs two syncs and a single change has no delay.
func (p *proxier) loop(ctx context.Context) {
	check := time.NewTicker(p.period)
	defer check.Stop()
	again := stoppedTimer() // after a failure, or a pause
	defer again.Stop()
	p.drain, p.settle = stoppedTimer(), stoppedTimer()
	defer p.drain.Stop()
	defer p.settle.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case c := <-p.events:
			p.take(c)
		case <-again.C:
		case <-p.drain.C:
			p.applier.forgetIdle()
			p.drain.Reset(drainEvery)
		case <-p.settle.C:
			p.tidy(ctx)
		case <-check.C:
			p.check(ctx)
		}
		if !p.seenAll || !p.due && !p.model.Changed() {
			p.forgetCounts()
			continue
		}
		if wait := p.pause - time.Since(last); wait > 0 {
			again.Reset(wait)
			continue
		}
		last = time.Now()
		if err := p.sync(ctx); err != nil && ctx.Err() == nil {
			p.retry = min(max(p.retry*2, retryMin), retryMax)
			slog.Error("rules not applied", "ipFamily", p.family, "err", err, "retry", p.retry)
			again.Reset(p.retry)
		}
	}
}

func stoppedTimer() *time.Timer {
	t := time.NewTimer(0)
	t.Stop()
	return t
}

// take applies a change, and all that wait behind it.
func (p *proxier) take(c change) {
	for {
		c.apply()
		if c.kind != nil {
			p.waiting[c.kind] += c.count
			c.kind.pending.Set(float64(p.waiting[c.kind]))
		}
		select {
		case c = <-p.events:
		default:
			return
		}
	}
}

// tidy lets the backend settle; what it can not take away, a full sync does. What
// a full sync needed for a moment, tens of MB in a large cluster, goes back to
// the machine.
func (p *proxier) tidy(ctx context.Context) {
	p.settling = false
	if p.wasFull {
		p.wasFull = false
		debug.FreeOSMemory()
	}
	if err := p.applier.Settle(ctx); err != nil && ctx.Err() == nil {
		slog.Error("rules not tidied up", "ipFamily", p.family, "err", err)
		p.due = true
	}
}

func (p *proxier) check(ctx context.Context) {
	intact, err := p.backend.Check(ctx)
	switch {
	case err != nil:
		slog.Error("rules not checked", "ipFamily", p.family, "err", err)
	case !intact:
		slog.Info("somebody has flushed our rules: writing them again", "ipFamily", p.family)
		p.due, p.applier.full = true, true
	}
}

func (p *proxier) sync(ctx context.Context) error {
	began := time.Now()
	full := p.applier.full
	p.health.queued(p.family)
	p.metrics.queued.WithLabelValues(string(p.family)).Set(float64(began.UnixMilli()) / 1000)
	snapshot := p.model.Snapshot()
	if err := p.applier.Apply(ctx, snapshot); err != nil {
		p.due = true // the model holds it for told
		return err
	}
	slog.Info("SyncProxyRules complete", "ipFamily", p.family, "elapsed", time.Since(began).Round(time.Microsecond))
	p.metrics.applied(p.family, snapshot, full, began, p.made)
	p.wasFull = p.wasFull || full
	if !p.settling { // else it comes anyway: a storm of changes does not put it off
		p.settle.Reset(settleAfter)
		p.settling = true
	}
	if p.drain.Stop(); len(p.applier.draining) > 0 {
		p.drain.Reset(drainEvery)
	}
	p.forgetCounts()
	p.due, p.retry, p.made = false, 0, nil
	p.health.synced(p.family)
	return nil
}

// forgetCounts: the events that waited are in force, or are none of this
// family's.
func (p *proxier) forgetCounts() {
	for kind := range p.waiting {
		kind.pending.Set(0)
	}
	clear(p.waiting)
}

// setSlice also notes when the change was made, to tell how long it took to be
// in force. What was there before us took as long as we were away.
func (p *proxier) setSlice(slice *endpointSlice) {
	if p.model.setSlice(slice) && p.seenAll && !slice.made.IsZero() {
		p.made = append(p.made, slice.made)
	}
}

// setService logs what a learner greps for in /var/log/kube-proxy.log.
func (p *proxier) setService(svc *service) {
	p.logChange(svc.id(), func() { p.model.setService(svc) })
}

func (p *proxier) deleteService(name ServiceName) {
	p.logChange(name, func() { p.model.DeleteService(name) })
}

// logChange tells what a change does to the ports of a Service.
func (p *proxier) logChange(name ServiceName, change func()) {
	old := map[PortName]string{}
	for _, port := range p.model.ports(name) {
		old[port.Name] = port.describe()
	}
	change()
	for _, port := range p.model.ports(name) {
		switch was, known := old[port.Name]; {
		case !known:
			slog.Info("Adding new service port", "portName", port.Name.String(), "servicePort", port.describe())
		case was != port.describe():
			slog.Info("Updating existing service port", "portName", port.Name.String(), "servicePort", port.describe())
		}
		delete(old, port.Name)
	}
	for name, was := range old {
		slog.Info("Removing service port", "portName", name.String(), "servicePort", was)
	}
}
