package lab

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// Timeline prints the steps of something long as they end, with the moment of
// each in milliseconds since the beginning: where the time goes is part of
// what the lab shows.
type Timeline struct {
	out   io.Writer
	began time.Time
	mu    sync.Mutex
}

// NewTimeline starts the clock.
func NewTimeline(out io.Writer) *Timeline { return &Timeline{out: out, began: time.Now()} }

// Step tells that something has just been reached.
func (t *Timeline) Step(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, "%7d ms  %s\n", t.Elapsed().Milliseconds(), fmt.Sprintf(format, args...))
}

// Elapsed is the time since NewTimeline.
func (t *Timeline) Elapsed() time.Duration { return time.Since(t.began) }
