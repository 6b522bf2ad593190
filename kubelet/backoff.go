package kubelet

import "time"

// Container restarts and image pulls are repeated after 10 s, 20 s, 40 s, … at most 5 minutes; what went
// well for 10 minutes starts again at the beginning.
const (
	backoffFirst = 10 * time.Second
	backoffMax   = 5 * time.Minute
	backoffReset = 10 * time.Minute
)

// backoff remembers how long to wait before the next try of one thing.
type backoff struct {
	delay time.Duration // 0: it has not failed yet, the next try may come at once
	since time.Time     // of the last failure
}

// remaining is how long the next try has to wait.
func (b backoff) remaining(now time.Time) time.Duration {
	return max(0, b.since.Add(b.delay).Sub(now))
}

// longer doubles the wait for the next time.
func (b backoff) longer() backoff {
	if b.delay == 0 {
		return backoff{delay: backoffFirst, since: b.since}
	}
	return backoff{delay: min(2*b.delay, backoffMax), since: b.since}
}

// failed records a failure now, after which the next try has to wait.
func (b backoff) failed(now time.Time) backoff {
	if now.Sub(b.since) > backoffReset+b.delay {
		b.delay = 0
	}
	b.since = now
	return b.longer()
}

// quickRetry is for what mends itself soon, a ConfigMap that is yet to be made or a busy API server:
// 100 ms, 200 ms, … at most 10 s.
type quickRetry struct{ delay time.Duration }

func (q *quickRetry) next() time.Duration {
	q.delay = min(max(2*q.delay, 100*time.Millisecond), 10*time.Second)
	return q.delay
}

func (q *quickRetry) reset() { q.delay = 0 }
