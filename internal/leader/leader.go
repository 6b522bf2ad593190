package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// ErrLost is returned by Run when another copy has taken the lease. The process should end: its caches
// and timers belong to a leader.
var ErrLost = errors.New("lease lost to another holder")

// Upstream's defaults, --leader-elect-lease-duration, -renew-deadline and -retry-period.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// election says which lease is fought for and under which name.
type election struct {
	Client   kubernetes.Interface
	Lease    string // name of the Lease in kube-system, such as "kube-scheduler"
	Identity string // the host name, see the package comment
}

// elect waits for the lease, then calls lead with a context which ends when leadership does. It returns
// nil when ctx is done, ErrLost when the lease went to somebody else, or the error of lead.
func elect(ctx context.Context, e election, lead func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	result := make(chan error, 1)
	var leading atomic.Bool
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: e.Lease,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: e.Lease},
			Client:     e.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.Identity},
		},
		LeaseDuration: leaseDuration,
		RenewDeadline: renewDeadline,
		RetryPeriod:   retryPeriod,
		// An orderly stop gives the lease back, so that another copy need not wait for its end.
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				leading.Store(true)
				slog.Info("became leader", "lease", e.Lease, "identity", e.Identity)
				result <- lead(ctx)
				stop()
			},
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				if identity != e.Identity {
					slog.Info("another copy leads, standing by", "lease", e.Lease, "leader", identity)
				}
			},
		},
	})
	if err != nil {
		return fmt.Errorf("set up leader election %s: %w", e.Lease, err)
	}
	elector.Run(ctx)
	if ctx.Err() == nil {
		return ErrLost
	}
	if !leading.Load() {
		return nil // stopped while standing by
	}
	return <-result
}
