package leader

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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

// Election says which lease is fought for and under which name.
type Election struct {
	Client   kubernetes.Interface
	Lease    string // name of the Lease in kube-system, such as "kube-scheduler"
	Identity string // the host name, see the package comment
}

// Run waits for the lease, then calls lead with a context which ends when leadership does. It returns
// nil when ctx is done, ErrLost when the lease went to somebody else, or the error of lead.
func Run(ctx context.Context, e Election, lead func(context.Context) error) error {
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

// WaitForAPI returns as soon as the API server answers the given question, or when ctx is done. All
// components start in parallel, so the server may come up a second later; it is asked again after
// 50 ms, then after 100 ms, because every longer pause would be added to the start of the cluster.
func WaitForAPI(ctx context.Context, ask func(context.Context) error) error {
	pause := 50 * time.Millisecond
	for try := 1; ; try++ {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if try == 20 || apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			slog.Warn("waiting for the API server", "tries", try, "err", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for API server: %w", errors.Join(ctx.Err(), err))
		case <-time.After(pause):
		}
		pause = min(2*pause, 100*time.Millisecond)
	}
}
