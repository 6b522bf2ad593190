package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/leader"
	"github.com/podarium/podarium/internal/pki"
)

// Config says which cluster is controlled, and how.
type Config struct {
	API *rest.Config

	// AllocateNodeCIDRs gives every node a piece of ClusterCIDR, a prefix of NodeCIDRMaskSize bits.
	AllocateNodeCIDRs bool
	ClusterCIDR       netip.Prefix
	NodeCIDRMaskSize  int

	// RootCA is the PEM text which every namespace finds in its ConfigMap kube-root-ca.crt; when empty,
	// none is published.
	RootCA []byte

	// SigningCA signs approved certificate requests, for SigningDuration at most; when nil, nobody does.
	SigningCA       *pki.CA
	SigningDuration time.Duration

	// NodeMonitorGracePeriod is how long a node may be silent before it counts as unreachable.
	NodeMonitorGracePeriod time.Duration

	// Controllers are the names to run, in the words of --controllers: "*" is all, "-x" is all but x.
	Controllers []string

	LeaderElect   bool
	Identity      string // in the lease: the host name
	HealthAddress string // host:port of /healthz; empty for none
}

// start registers what a controller watches and returns its loop. Loops run when all caches are filled.
type start func(c *cluster) loop

type loop func(ctx context.Context)

// all is the table of contents, in the order in which a new cluster needs them: a node without pod
// addresses cannot run anything. The names are upstream's.
var all = []struct {
	name  string
	start start
}{
	{"node-ipam-controller", nodeIPAM},                               // podcidr.go
	{"clusterrole-aggregation-controller", clusterRoleAggregation},   // clusterroleaggregation.go
	{"serviceaccount-controller", serviceAccounts},                   // serviceaccount.go
	{"root-ca-certificate-publisher-controller", rootCA},             // rootca.go
	{"certificatesigningrequest-approving-controller", csrApproving}, // csrapproving.go
	{"certificatesigningrequest-signing-controller", csrSigning},     // csrsigning.go
	{"certificatesigningrequest-cleaner-controller", csrCleaning},    // csrcleaner.go
	{"token-cleaner-controller", tokenCleaning},                      // tokencleaner.go
	{"deployment-controller", deployments},                           // deployment*.go
	{"replicaset-controller", replicaSets},                           // replicaset.go
	{"replicationcontroller-controller", replicationControllers},     // replicationcontroller.go
	{"daemonset-controller", daemonSets},                             // daemonset.go, daemonplan.go
	{"statefulset-controller", statefulSets},                         // statefulset.go, statefulplan.go
	{"job-controller", jobs},                                         // job*.go
	{"disruption-controller", disruptions},                           // disruption.go
	{"service-cidr-controller", serviceCIDRs},                        // servicecidr.go
	{"endpointslice-controller", endpointSlices},                     // endpointslice.go, managedslices.go
	{"endpoints-controller", endpoints},                              // endpoints.go
	{"endpointslice-mirroring-controller", sliceMirroring},           // slicemirroring.go
	{"node-lifecycle-controller", nodeLifecycle},                     // nodelifecycle.go, nodetaints.go
	{"taint-eviction-controller", taintEviction},                     // tainteviction.go
	{"pod-garbage-collector-controller", podGarbageCollector},        // podgc.go
	{"namespace-controller", namespaces},                             // namespace.go
	{"garbage-collector-controller", garbageCollector},               // gc.go, gcgraph.go
}

// cluster is what every controller is given: clients, shared caches, a way to write events.
type cluster struct {
	Config
	ctx         context.Context // ends when the process ends, or leadership is lost
	client      kubernetes.Interface
	metadata    metadata.Interface
	discovery   discovery.DiscoveryInterface
	informers   informers.SharedInformerFactory
	broadcaster record.EventBroadcaster
	resources   *allResources // every object of the cluster, as metadata
}

// Run controls the cluster until ctx is done.
func Run(ctx context.Context, cfg Config) error {
	if err := checkNames(cfg.Controllers); err != nil {
		return err
	}
	component := leader.Component{
		Name: "kube-controller-manager", API: cfg.API, Elect: cfg.LeaderElect, Identity: cfg.Identity, HealthAddress: cfg.HealthAddress,
	}
	return component.Run(ctx, func(ctx context.Context, client kubernetes.Interface) error { return control(ctx, cfg, client) })
}

// control runs all controllers with fresh caches.
func control(ctx context.Context, cfg Config, client kubernetes.Interface) error {
	meta, err := metadata.NewForConfig(cfg.API)
	if err != nil {
		return fmt.Errorf("make metadata client: %w", err)
	}
	// Events tell people what happened, in `kubectl describe`; writing them must never delay work, so
	// they go through a buffer and a goroutine of their own.
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	defer broadcaster.Shutdown()

	c := &cluster{
		Config: cfg, ctx: ctx, client: client, metadata: meta, discovery: client.Discovery(),
		informers:   informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trim)),
		broadcaster: broadcaster,
	}
	c.resources = newAllResources(c)
	return c.run(ctx)
}

func (c *cluster) run(ctx context.Context) error {
	var group sync.WaitGroup
	var loops []loop
	for _, controller := range all {
		if !enabled(c.Controllers, controller.name) {
			continue
		}
		if run := controller.start(c); run != nil {
			loops = append(loops, run)
			slog.Debug("controller starts", "controller", controller.name)
		}
	}
	began := time.Now()
	c.informers.StartWithContext(ctx)
	if result := c.informers.WaitForCacheSyncWithContext(ctx); result.Err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("fill caches: %w", result.AsError())
	}
	slog.Info("controllers run", "count", len(loops), "caches filled in", time.Since(began).Round(time.Millisecond))
	for _, run := range loops {
		group.Go(func() { run(ctx) })
	}
	group.Wait() // for work in hand; the watches end with the process
	return nil
}

// trim takes out of a cached object what no controller reads. managedFields, the record of who set
// which field, is often a third of an object.
func trim(obj any) (any, error) {
	if object, ok := obj.(interface {
		SetManagedFields([]metav1.ManagedFieldsEntry)
	}); ok {
		object.SetManagedFields(nil)
	}
	return obj, nil
}

// enabled reads the list of --controllers as upstream does: the first entry which speaks of name decides.
func enabled(list []string, name string) bool {
	star := len(list) == 0
	for _, entry := range list {
		switch entry {
		case name:
			return true
		case "-" + name:
			return false
		case "*":
			star = true
		}
	}
	return star
}

func checkNames(list []string) error {
	known := []string{"*"}
	for _, controller := range all {
		known = append(known, controller.name, "-"+controller.name)
	}
	for _, entry := range list {
		if !slices.Contains(known, entry) {
			return fmt.Errorf("%q is not in the list of known controllers", entry)
		}
	}
	return nil
}

// Names lists the controllers, for the help of --controllers.
func Names() []string {
	var names []string
	for _, controller := range all {
		names = append(names, controller.name)
	}
	return names
}
