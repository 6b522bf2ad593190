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
	"k8s.io/client-go/kubernetes"

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
	// NodePortAddresses of this node answer on health check node ports; none of a family:
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
	startWatch(ctx, cfg, proxiers, health, metrics)
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
