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
// The last one keeps a pod which never fits from being tried at every change of a busy cluster. When
// nobody is active the scheduler has nothing better to do, and takes one from there before its time
// (KEP-5142), unless an error put it there: a pod that waits for its node waits no second longer.
type podQueue struct {
	mu   sync.Mutex
	pods map[types.UID]*queued
	wake chan struct{} // capacity 1: "look again"
}

type queued struct {
	pod      *corev1.Pod
	state    queueState
	since    time.Time // in the queue
	tries    int
	earliest time.Time // next try
	patient  bool      // the pause is for an error and is kept
	helpful  change    // what may help it, by the reasons of the last try
	seen     change    // what happened during the present try
}

// change is a set of things which happened in the cluster.
type change int

const (
	nodeChange change = 1 << iota // a node is there, or has other labels, taints, resources
	podArrived                    // a pod has a node: somebody may want to be near it
	podLeft                       // a pod is gone: what it held is free

	anyChange = nodeChange | podArrived | podLeft
)

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
		q.retryAfter(entry, anyChange)
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
		best = q.mostUrgentBacking()
	}
	if best == nil {
		return nil
	}
	best.state, best.seen = trying, 0
	best.tries++
	return best.pod
}

func (q *podQueue) mostUrgentBacking() *queued {
	var best *queued
	for _, entry := range q.pods {
		if entry.state == backing && !entry.patient && (best == nil || before(entry, best)) {
			best = entry
		}
	}
	return best
}

func before(a, b *queued) bool {
	x, y := corev1helpers.PodPriority(a.pod), corev1helpers.PodPriority(b.pod)
	return x > y || x == y && a.since.Before(b.since)
}

// failed puts a pod back which fits nowhere; helpful is what may change that. When it happened during the
// try, the answer may be out of date already.
func (q *podQueue) failed(uid types.UID, helpful change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	entry, ok := q.pods[uid]
	if !ok {
		return // deleted meanwhile
	}
	entry.state, entry.helpful, entry.patient = waiting, helpful, false
	entry.earliest = time.Now().Add(backoff(entry.tries))
	if entry.seen&helpful != 0 {
		q.retry(entry)
	}
}

// retryLater puts a pod back whose node was found but could not be written.
func (q *podQueue) retryLater(uid types.UID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if entry, ok := q.pods[uid]; ok {
		entry.state, entry.earliest, entry.patient = waiting, time.Now().Add(backoff(entry.tries)), true
		q.retry(entry)
	}
}

// clusterChanged gives the pods which it may help another chance.
func (q *podQueue) clusterChanged(what change) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, entry := range q.pods {
		q.retryAfter(entry, what)
	}
}

func (q *podQueue) retryAfter(entry *queued, what change) {
	switch {
	case entry.state == trying:
		entry.seen |= what // the try works with an old picture
	case entry.state == waiting && entry.helpful&what != 0:
		q.retry(entry)
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
	q.signal()
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
