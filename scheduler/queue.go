package scheduler

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
)

// Pause before a pod is tried again: 1 s, 2 s, 4 s, 8 s, 10 s, 10 s, … (upstream's podInitialBackoffSeconds
// and podMaxBackoffSeconds).
const (
	firstBackoff = time.Second
	lastBackoff  = 10 * time.Second
)

// podQueue holds the pods without a node. A pod in it is in one of three states:
//
//	active    waits for its turn: the highest priority first, then the one which waits longest
//	waiting   fits nowhere; nothing happens until the cluster changes
//	backing   fits nowhere, the cluster has changed meanwhile, but it was tried only a moment ago
//
// The last one keeps a pod which never fits from being tried at every change of a busy cluster.
type podQueue struct {
	mu      sync.Mutex
	pods    map[types.UID]*queued
	wake    chan struct{} // capacity 1: "look again"
	changes int           // of the cluster, to notice those which happen during a try
}

type queued struct {
	pod      *corev1.Pod
	state    queueState
	since    time.Time // in the queue
	tries    int
	earliest time.Time // next try
	seen     int       // changes, when the present try began
}

type queueState int

const (
	active queueState = iota
	waiting
	backing
	trying
)

func newPodQueue() *podQueue {
	return &podQueue{pods: map[types.UID]*queued{}, wake: make(chan struct{}, 1)}
}

// add queues a pod, or replaces what is known of it. A change of the pod itself is a reason to try again.
func (q *podQueue) add(pod *corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if entry, ok := q.pods[pod.UID]; ok {
		entry.pod = pod
		q.retryAfterChange(entry)
		return
	}
	q.pods[pod.UID] = &queued{pod: pod, since: time.Now()}
	q.signal()
}

// refresh replaces what is known of a queued pod, without a reason to try it again: such as our own
// condition, which comes back to us by the watch.
func (q *podQueue) refresh(pod *corev1.Pod) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if entry, ok := q.pods[pod.UID]; ok {
		entry.pod = pod
	}
}

func (q *podQueue) remove(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.pods, uid)
}

// next returns the pod whose turn it is, and waits for one. It returns nil when ctx is done.
func (q *podQueue) next(ctx context.Context) *corev1.Pod {
	for {
		if pod := q.pop(); pod != nil {
			return pod
		}
		select {
		case <-ctx.Done():
			return nil
		case <-q.wake:
		}
	}
}

func (q *podQueue) pop() *corev1.Pod {
	q.mu.Lock()
	defer q.mu.Unlock()
	var best *queued
	for _, entry := range q.pods {
		if entry.state == active && (best == nil || before(entry, best)) {
			best = entry
		}
	}
	if best == nil {
		return nil
	}
	best.state, best.seen = trying, q.changes
	best.tries++
	return best.pod
}

func before(a, b *queued) bool {
	x, y := corev1helpers.PodPriority(a.pod), corev1helpers.PodPriority(b.pod)
	return x > y || x == y && a.since.Before(b.since)
}

// failed puts a pod back which fits nowhere. If the cluster changed during the try, the answer may be out
// of date already.
func (q *podQueue) failed(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	entry, ok := q.pods[uid]
	if !ok {
		return // deleted meanwhile
	}
	entry.state, entry.earliest = waiting, time.Now().Add(backoff(entry.tries))
	if entry.seen != q.changes {
		q.retry(entry)
	}
}

// retryLater puts a pod back whose node was found but could not be written.
func (q *podQueue) retryLater(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if entry, ok := q.pods[uid]; ok {
		entry.state, entry.earliest = waiting, time.Now().Add(backoff(entry.tries))
		q.retry(entry)
	}
}

// clusterChanged gives all pods which wait another chance.
func (q *podQueue) clusterChanged() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.changes++
	for _, entry := range q.pods {
		q.retryAfterChange(entry)
	}
}

func (q *podQueue) retryAfterChange(entry *queued) {
	switch entry.state {
	case waiting:
		q.retry(entry)
	case trying:
		entry.seen = -1 // the try works with an old picture
	}
}

// retry makes a pod active, at once or when its pause is over.
func (q *podQueue) retry(entry *queued) {
	pause := time.Until(entry.earliest)
	if pause <= 0 {
		entry.state = active
		q.signal()
		return
	}
	entry.state = backing
	time.AfterFunc(pause, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		if entry.state == backing {
			entry.state = active
			q.signal()
		}
	})
}

func (q *podQueue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func backoff(tries int) time.Duration {
	pause := firstBackoff
	for range tries - 1 {
		pause = min(2*pause, lastBackoff)
	}
	return pause
}
