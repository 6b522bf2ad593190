package kubelet

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
)

// TestGate: with one place, who waits enters in this order: containers of begun pods, then new pods, then
// events, each in the order of coming; and who gives up loses no place for the others.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		if !g.enter(t.Context(), newPod) {
			t.Fatal("an open gate let nobody in")
		}
		var order []string
		wait := func(ctx context.Context, name string, at turn) {
			go func() {
				if g.enter(ctx, at) {
					order = append(order, name) // one at a time, by the gate itself
					g.leave()
				}
			}()
			synctest.Wait()
		}
		impatient, giveUp := context.WithCancel(t.Context())
		wait(t.Context(), "event", telling)
		wait(t.Context(), "pod 1", newPod)
		wait(impatient, "pod 2", newPod)
		wait(t.Context(), "pod 3", newPod)
		wait(t.Context(), "container 1", begunPod)
		wait(t.Context(), "container 2", begunPod)
		giveUp()
		synctest.Wait()
		g.leave()
		synctest.Wait()
		if want := []string{"container 1", "container 2", "pod 1", "pod 3", "event"}; !slices.Equal(order, want) {
			t.Errorf("entered in order %q, want %q", order, want)
		}
		if g.free != 1 {
			t.Errorf("%d places are free in the end, want 1", g.free)
		}
		if g.enter(impatient, begunPod) {
			t.Error("somebody entered whose context has ended")
		}
	})
}

// TestGateHandover: a place given to somebody who gives up at the same moment is not lost.
func TestGateHandover(t *testing.T) {
	for range 1000 {
		g := newGate(1)
		g.enter(t.Context(), newPod)
		ctx, cancel := context.WithCancel(t.Context())
		entered := make(chan bool)
		go func() { entered <- g.enter(ctx, newPod) }()
		go cancel()
		g.leave()
		if <-entered {
			g.leave()
		}
		if g.free != 1 || len(g.waiting[newPod]) != 0 {
			t.Fatalf("%d places free, %d wait, want 1 and none", g.free, len(g.waiting[newPod]))
		}
	}
}
