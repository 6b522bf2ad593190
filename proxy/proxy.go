package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/internal/kube"
)

// Config is what Run needs.
type Config struct {
	// Client reads Services, EndpointSlices and our own Node.
	Client kubernetes.Interface
	// Node is the name of the node we are on.
	Node string
	// Backend writes the rules.
	Backend Backend
	// HealthAddress serves /healthz and /livez: "0.0.0.0:10256".
	HealthAddress string
	// SyncPeriod is how often to look whether somebody has taken the rules
	// away; the kernel does not tell.
	SyncPeriod time.Duration
}

// After a failed sync the next comes by itself, after a pause that doubles.
const (
	retryMin = 100 * time.Millisecond
	retryMax = 10 * time.Second
)

// Run keeps the node's rules equal to the cluster's Services until ctx is
// done. The rules stay when it ends: connections must outlive a restart.
func Run(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := kube.WaitReady(ctx, cfg.Client); err != nil {
		return nil // asked to end before there was an API server
	}
	r := &runner{cfg: cfg, model: NewModel(cfg.Node), events: make(chan func(), 256), applier: NewApplier(cfg.Backend)}
	if err := r.startWatch(ctx); err != nil {
		return err
	}
	r.health = newHealth(cfg.SyncPeriod)
	go func() {
		if err := r.health.serve(ctx, cfg.HealthAddress); err != nil {
			cancel(err)
		}
	}()
	err := r.loop(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// runner owns the Model: all changes of it, and all syncs, happen in loop.
type runner struct {
	cfg     Config
	model   *Model
	events  chan func() // changes of the model, in the order they were seen
	synced  chan struct{}
	health  *health
	changed bool // the model, since the last successful sync
	retry   time.Duration
	applier *Applier
	drain   *time.Timer
}

// drainEvery is how often idle flows to endpoints that drain are looked for.
const drainEvery = time.Second

// startWatch begins to watch; synced is closed when all that existed has been
// handed over as events.
func (r *runner) startWatch(ctx context.Context) error {
	all := informers.NewSharedInformerFactoryWithOptions(r.cfg.Client, 0, informers.WithTransform(trim))
	own := informers.NewSharedInformerFactoryWithOptions(r.cfg.Client, 0, informers.WithTransform(trim),
		informers.WithTweakListOptions(onlyNode(r.cfg.Node)))
	handlers := []struct {
		informer cache.SharedIndexInformer
		set, del func(any)
	}{
		{all.Core().V1().Services().Informer(), func(o any) { r.setService(o.(*corev1.Service)) }, func(o any) { r.deleteService(o.(*corev1.Service)) }},
		{all.Discovery().V1().EndpointSlices().Informer(), func(o any) { r.model.SetSlice(o.(*discoveryv1.EndpointSlice)) }, func(o any) { r.model.DeleteSlice(o.(*discoveryv1.EndpointSlice)) }},
		{own.Core().V1().Nodes().Informer(), func(o any) { r.model.SetZone(o.(*corev1.Node).Labels[corev1.LabelTopologyZone]) }, func(any) {}},
	}
	var registrations []cache.ResourceEventHandlerRegistration
	for _, h := range handlers {
		registration, err := h.informer.AddEventHandler(r.handler(ctx, h.set, h.del))
		if err != nil {
			return fmt.Errorf("watch the cluster: %w", err)
		}
		registrations = append(registrations, registration)
	}
	all.StartWithContext(ctx)
	own.StartWithContext(ctx)
	r.synced = make(chan struct{})
	go func() {
		for _, registration := range registrations {
			if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
				return
			}
		}
		// Behind all events: the first sync must not see half a cluster, or
		// it would take away rules which are right.
		r.send(ctx, func() { close(r.synced) })
	}()
	return nil
}

// handler turns an informer's events into changes of the model.
func (r *runner) handler(ctx context.Context, set, del func(any)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { r.send(ctx, func() { set(o) }) },
		UpdateFunc: func(_, o any) { r.send(ctx, func() { set(o) }) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			r.send(ctx, func() { del(o) })
		},
	}
}

func (r *runner) send(ctx context.Context, change func()) {
	select {
	case r.events <- change:
	case <-ctx.Done():
	}
}

// setService logs what a learner greps for in /var/log/kube-proxy.log.
func (r *runner) setService(svc *corev1.Service) {
	name := ServiceName{svc.Namespace, svc.Name}
	old := map[PortName]string{}
	for _, p := range r.model.services[name] {
		old[p.Name] = p.describe()
	}
	r.model.SetService(svc)
	for _, p := range r.model.services[name] {
		switch was, known := old[p.Name]; {
		case !known:
			slog.Info("Adding new service port", "portName", p.Name.String(), "servicePort", p.describe())
		case was != p.describe():
			slog.Info("Updating existing service port", "portName", p.Name.String(), "servicePort", p.describe())
		}
		delete(old, p.Name)
	}
	logRemoved(old)
}

func (r *runner) deleteService(svc *corev1.Service) {
	name := ServiceName{svc.Namespace, svc.Name}
	old := map[PortName]string{}
	for _, p := range r.model.services[name] {
		old[p.Name] = p.describe()
	}
	r.model.DeleteService(name)
	logRemoved(old)
}

func logRemoved(ports map[PortName]string) {
	for name, was := range ports {
		slog.Info("Removing service port", "portName", name.String(), "servicePort", was)
	}
}

// loop applies changes as they come. While a sync runs, changes queue up in
// events; all that wait are taken together into the next one, so a burst of
// changes costs two syncs and a single change has no delay.
func (r *runner) loop(ctx context.Context) error {
	check := time.NewTicker(r.cfg.SyncPeriod)
	defer check.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()
	r.drain = time.NewTimer(0)
	r.drain.Stop()
	defer r.drain.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case change := <-r.events:
			change()
			r.takeWaiting()
			r.changed = true
		case <-retry.C:
		case <-r.drain.C:
			r.applier.forgetIdle()
			r.drain.Reset(drainEvery)
		case <-check.C:
			r.check(ctx)
		}
		select {
		case <-r.synced:
		default:
			continue // not everything has been seen yet
		}
		if !r.changed {
			continue
		}
		if err := r.sync(ctx); err != nil && ctx.Err() == nil {
			r.retry = min(max(r.retry*2, retryMin), retryMax)
			slog.Error("rules not applied", "err", err, "retry", r.retry)
			retry.Reset(r.retry)
		}
	}
}

func (r *runner) takeWaiting() {
	for {
		select {
		case change := <-r.events:
			change()
		default:
			return
		}
	}
}

func (r *runner) check(ctx context.Context) {
	intact, err := r.cfg.Backend.Check(ctx)
	switch {
	case err != nil:
		slog.Error("rules not checked", "err", err)
	case !intact:
		slog.Info("somebody has flushed our rules: writing them again")
		r.changed = true
	}
}

func (r *runner) sync(ctx context.Context) error {
	snapshot := r.model.Snapshot()
	r.health.queued()
	if err := r.applier.Apply(ctx, snapshot); err != nil {
		return err
	}
	if r.drain.Stop(); len(r.applier.draining) > 0 {
		r.drain.Reset(drainEvery)
	}
	r.changed, r.retry = false, 0
	r.health.updated()
	return nil
}

// trim drops what no rule needs before an object is kept.
func trim(object any) (any, error) {
	if accessor, err := meta.Accessor(object); err == nil {
		accessor.SetManagedFields(nil)
		accessor.SetAnnotations(nil)
	}
	return object, nil
}
