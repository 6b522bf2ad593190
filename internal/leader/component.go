package leader

import (
	"context"
	"fmt"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/podarium/podarium/internal/kube"
)

// Component is a part of the control plane of which one copy works at a time.
type Component struct {
	Name          string // kube-scheduler, also the name of its lease
	API           *rest.Config
	Elect         bool
	Identity      string // in the lease: the host name
	HealthAddress string // host:port of /healthz; empty for none
}

// Run calls work when this copy is the one which works. Before that it binds the health port and waits
// patiently for an API server which is not up yet. It returns nil when ctx is done.
func (c Component) Run(ctx context.Context, work func(ctx context.Context, client kubernetes.Interface) error) error {
	client, err := kubernetes.NewForConfig(c.API)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	if c.HealthAddress != "" {
		if err := serveHealth(ctx, c.HealthAddress); err != nil {
			return err
		}
	}
	if err := kube.WaitReady(ctx, client); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	lead := func(ctx context.Context) error { return work(ctx, client) }
	if !c.Elect {
		return lead(ctx)
	}
	return elect(ctx, election{Client: client, Lease: c.Name, Identity: c.Identity}, lead)
}
