package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
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
	// Mode is the backends', as /proxyMode tells it.
	Mode string
	// Backends write the rules, one for each IP family.
	Backends map[corev1.IPFamily]Backend
	// HealthAddress serves /healthz and /livez: "0.0.0.0:10256".
	HealthAddress string
	// MetricsAddress serves /metrics, /proxyMode and /configz: "127.0.0.1:10249".
	MetricsAddress string
	// NodePortAddresses of this node answer on health check node ports; none:
	// all of its addresses do.
	NodePortAddresses []netip.Addr
	// Configz is the configuration as /configz shows it.
	Configz any
	// SyncPeriod is how often to look whether somebody has taken the rules
	// away; the kernel does not tell.
	SyncPeriod time.Duration
	// MinSyncPeriod is how long to wait at least between two syncs.
	MinSyncPeriod time.Duration
}

// Run keeps the node's rules equal to the cluster's Services until ctx is
// done. The rules stay when it ends: connections must outlive a restart.
func Run(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := kube.WaitReady(ctx, cfg.Client); err != nil {
		return nil // asked to end before there was an API server
	}
	metrics := newMetrics()
	health := newHealth(cfg.SyncPeriod, slices.Collect(maps.Keys(cfg.Backends)), metrics)
	if err := serve(ctx, cfg, health, metrics, cancel); err != nil {
		return err
	}
	var proxiers []*proxier
	for _, family := range slices.Sorted(maps.Keys(cfg.Backends)) {
		p, err := newProxier(cfg, family, health, metrics)
		if err != nil {
			return err
		}
		proxiers = append(proxiers, p)
	}
	if err := startWatch(ctx, cfg, proxiers, health, metrics); err != nil {
		return err
	}
	for _, p := range proxiers {
		go p.loop(ctx)
	}
	<-ctx.Done()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// serve opens the two ports; failed is told when one of them ends.
func serve(ctx context.Context, cfg Config, health *health, metrics *metrics, failed func(error)) error {
	configz, err := json.Marshal(map[string]any{"kubeproxy.config.k8s.io": cfg.Configz})
	if err != nil {
		return fmt.Errorf("write configz: %w", err)
	}
	if cfg.HealthAddress != "" {
		if err := serveHTTP(ctx, cfg.HealthAddress, health.handler(), failed); err != nil {
			return fmt.Errorf("serve health: %w", err)
		}
	}
	if cfg.MetricsAddress != "" {
		if err := serveHTTP(ctx, cfg.MetricsAddress, metrics.handler(cfg.Mode, configz), failed); err != nil {
			return fmt.Errorf("serve metrics: %w", err)
		}
	}
	return nil
}

// watcher hands the events of one kind of object to all proxiers.
type watcher struct {
	informer cache.SharedIndexInformer
	set, del func(p *proxier, object any)
	counts   func() *changes // nil: not counted
}

// startWatch begins to watch. When all that existed has been handed over, each
// proxier is told so, behind all those events: its first sync must not see half
// a cluster, or it would take away rules which are right.
func startWatch(ctx context.Context, cfg Config, proxiers []*proxier, health *health, metrics *metrics) error {
	all := informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0, informers.WithTransform(reader(cfg.Node)))
	own := informers.NewSharedInformerFactoryWithOptions(cfg.Client, 0, informers.WithTransform(reader(cfg.Node)),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("metadata.name", cfg.Node).String()
		}))
	var registrations []cache.ResourceEventHandlerRegistration
	for _, w := range []watcher{
		{
			all.Core().V1().Services().Informer(),
			func(p *proxier, o any) { p.setService(o.(*service)) },
			func(p *proxier, o any) { p.deleteService(o.(*service)) },
			func() *changes { return &metrics.services },
		},
		{
			all.Discovery().V1().EndpointSlices().Informer(),
			func(p *proxier, o any) { p.setSlice(o.(*endpointSlice)) },
			func(p *proxier, o any) { p.model.deleteSlice(o.(*endpointSlice)) },
			func() *changes { return &metrics.endpoints },
		},
		{
			own.Core().V1().Nodes().Informer(),
			func(p *proxier, o any) {
				health.setNode(o.(*corev1.Node))
				p.model.SetZone(o.(*corev1.Node).Labels[corev1.LabelTopologyZone])
			},
			func(*proxier, any) { health.setNode(nil) },
			nil,
		},
	} {
		registration, err := w.informer.AddEventHandler(w.handler(ctx, proxiers))
		if err != nil {
			return fmt.Errorf("watch the cluster: %w", err)
		}
		registrations = append(registrations, registration)
	}
	all.StartWithContext(ctx)
	own.StartWithContext(ctx)
	go func() {
		for _, registration := range registrations {
			if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
				return
			}
		}
		for _, p := range proxiers {
			p.send(ctx, change{apply: func() { p.seenAll = true }})
		}
	}()
	return nil
}

// handler turns an informer's events into changes of the models.
func (w watcher) handler(ctx context.Context, proxiers []*proxier) cache.ResourceEventHandler {
	tell := func(event func(*proxier, any), object any) {
		var kind *changes
		if w.counts != nil {
			kind = w.counts()
			kind.total.Inc()
		}
		for _, p := range proxiers {
			p.send(ctx, change{kind, func() { event(p, object) }})
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { tell(w.set, o) },
		UpdateFunc: func(_, o any) { tell(w.set, o) },
		DeleteFunc: func(o any) {
			if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = unknown.Obj
			}
			tell(w.del, o)
		},
	}
}
