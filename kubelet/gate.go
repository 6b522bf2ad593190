package kubelet

import (
	"context"
	"slices"
	"sync"
)

// gate lets few starts through at a time. A start is work for the processor and little else: of 30 at
// once on two processors all would be ready at the end, of two at a time half are ready at half the time.
// For the same reason a pod which has its sandbox goes before one which has nothing yet. Pulling an image,
// waiting for a ConfigMap or for a probe happens outside the gate.
type gate struct {
	mu      sync.Mutex
	free    int
	waiting [3][]chan struct{} // by turn, the first come first
}

// turn is in which queue a start waits.
type turn int

const (
	begunPod turn = iota // a container of a pod with a sandbox
	newPod               // a pod's sandbox
	telling              // an event: half of all requests of a start, and nothing waits for it
)

func newGate(places int) *gate { return &gate{free: places} }

// enter waits for a place, and tells whether it got one before ctx ended.
func (g *gate) enter(ctx context.Context, at turn) bool {
	if ctx.Err() != nil {
		return false
	}
	g.mu.Lock()
	if g.free > 0 {
		g.free--
		g.mu.Unlock()
		return true
	}
	mine := make(chan struct{})
	g.waiting[at] = append(g.waiting[at], mine)
	g.mu.Unlock()
	select {
	case <-mine:
		return true
	case <-ctx.Done():
		g.withdraw(at, mine)
		return false
	}
}

// withdraw leaves the queue; a place which was handed over meanwhile goes to the next.
func (g *gate) withdraw(at turn, mine chan struct{}) {
	g.mu.Lock()
	i := slices.Index(g.waiting[at], mine)
	if i >= 0 {
		g.waiting[at] = slices.Delete(g.waiting[at], i, i+1)
	}
	g.mu.Unlock()
	if i < 0 {
		g.leave()
	}
}

// leave hands the place to who waits first.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for at := range g.waiting {
		if len(g.waiting[at]) > 0 {
			close(g.waiting[at][0])
			g.waiting[at] = g.waiting[at][1:]
			return
		}
	}
	g.free++
}
