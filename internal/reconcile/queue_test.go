package reconcile

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// run starts the queue in a bubble with a fake clock and stops it at the end of the test.
func run[K comparable](t *testing.T, q *Queue[K], workers int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { q.Run(ctx, workers); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestManyEventsOfOneKeyAreOneUnitOfWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		q := New("test", func(context.Context, string) error { calls.Add(1); return nil })
		for range 10 {
			q.Add("default/web")
		}
		run(t, q, 2)
		synctest.Wait()
		if got := calls.Load(); got != 1 {
			t.Errorf("10 events of one key: %d calls, want 1", got)
		}
	})
}

func TestErrorIsTriedAgainLaterAndLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		q := New("test", func(context.Context, string) error {
			at = append(at, time.Since(start))
			if len(at) < 4 {
				return errors.New("not yet")
			}
			return nil
		})
		run(t, q, 1)
		q.Add("default/web")
		time.Sleep(time.Second)
		synctest.Wait()
		want := []time.Duration{0, 5 * time.Millisecond, 15 * time.Millisecond, 35 * time.Millisecond}
		if len(at) != len(want) {
			t.Fatalf("tried at %v, want %v", at, want)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("try %d at %v, want %v", i, at[i], want[i])
			}
		}
	})
}

func TestPanicOfOneKeyDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var good atomic.Int32
		var bad atomic.Int32
		q := New("test", func(_ context.Context, key string) error {
			if key == "bad" && bad.Add(1) == 1 {
				panic("nil map")
			}
			good.Add(1)
			return nil
		})
		run(t, q, 1)
		q.Add("bad")
		q.Add("good")
		time.Sleep(time.Second)
		synctest.Wait()
		if good.Load() != 2 {
			t.Errorf("%d keys finished, want 2 (good, and bad at its second try)", good.Load())
		}
	})
}

func TestAddAfterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at time.Duration
		q := New("test", func(context.Context, string) error { at = time.Since(start); return nil })
		run(t, q, 1)
		q.AddAfter("node-1", 50*time.Second)
		time.Sleep(time.Minute)
		synctest.Wait()
		if at != 50*time.Second {
			t.Errorf("reconciled after %v, want 50s", at)
		}
	})
}
