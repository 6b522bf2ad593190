package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
)

const (
	firstRetry = 5 * time.Millisecond
	lastRetry  = 30 * time.Second
)

// Func brings the world in line with what is wanted for key. It reads the present state itself; the
// key says only where to look. An error makes the queue call it again later.
type Func[K comparable] func(ctx context.Context, key K) error

// Queue is a set of keys waiting for work, and the loop which does that work.
type Queue[K comparable] struct {
	name      string
	reconcile Func[K]
	keys      workqueue.TypedRateLimitingInterface[K]
}

// New returns an empty queue. The name appears in log lines, such as "deployment".
func New[K comparable](name string, reconcile Func[K]) *Queue[K] {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[K](firstRetry, lastRetry)
	return &Queue[K]{name: name, reconcile: reconcile, keys: workqueue.NewTypedRateLimitingQueue(limiter)}
}

// Add asks for key to be reconciled. A key which already waits is not added twice; a key which is
// being worked on right now is worked on once more afterwards.
func (q *Queue[K]) Add(key K) { q.keys.Add(key) }

// AddAfter asks for key to be reconciled when d has passed: the way to wait for a deadline (a pod
// becomes available minReadySeconds after it became ready) without polling.
func (q *Queue[K]) AddAfter(key K, d time.Duration) { q.keys.AddAfter(key, d) }

// Run works on keys with the given number of workers until ctx is done, and returns when the last
// worker has finished.
func (q *Queue[K]) Run(ctx context.Context, workers int) {
	stop := context.AfterFunc(ctx, q.keys.ShutDown)
	defer stop()
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for q.next(ctx) {
			}
		})
	}
	group.Wait()
}

func (q *Queue[K]) next(ctx context.Context) bool {
	key, shutdown := q.keys.Get()
	if shutdown {
		return false
	}
	defer q.keys.Done(key)
	err := q.call(ctx, key)
	switch {
	case err == nil:
		q.keys.Forget(key)
	case ctx.Err() != nil:
		// We are stopping; the error is most likely our own cancellation.
	case apierrors.IsConflict(err):
		// Somebody else wrote the object first. That is how optimistic concurrency is meant to end;
		// the newer object is on its way to our cache.
		slog.Debug("object changed meanwhile, trying again", "controller", q.name, "key", key, "err", err)
		q.keys.AddRateLimited(key)
	default:
		slog.Warn("reconcile", "controller", q.name, "key", key, "tries", q.keys.NumRequeues(key)+1, "err", err)
		q.keys.AddRateLimited(key)
	}
	return true
}

// call turns a panic into an error: one bad object must not take down the controllers of all others.
func (q *Queue[K]) call(ctx context.Context, key K) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(fmt.Errorf("reconcile %v: panic: %v", key, p), errors.New(string(debug.Stack())))
		}
	}()
	return q.reconcile(ctx, key)
}
