package scheduler

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestHighestPriorityFirstThenTheOneWhichWaitsLongest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPodQueue()
		q.add(pod("first"))
		time.Sleep(time.Millisecond)
		q.add(pod("second"))
		time.Sleep(time.Millisecond)
		q.add(pod("important", func(p *corev1.Pod) { p.Spec.Priority = new(int32(1000)) }))
		for _, want := range []string{"important", "first", "second"} {
			if got := q.pop(); got == nil || got.Name != want {
				t.Fatalf("got %v, want %s", got, want)
			}
		}
	})
}

// TestWhenAPodIsTriedAgain: it fits nowhere; a change at 3 s which cannot help does nothing, one at 5 s is
// answered at once, as the pause of 1 s is over; after a change right after the second failure it lets
// others go first, and is tried when there are none.
func TestWhenAPodIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, a := newPodQueue(), pod("a")
		q.add(a)
		q.pop()
		q.failed(a.UID, nodeChange)
		time.Sleep(3 * time.Second)
		q.clusterChanged(podLeft)
		if q.pop() != nil {
			t.Error("tried again because a pod left, which cannot help")
		}
		time.Sleep(2 * time.Second)
		q.clusterChanged(nodeChange)
		if q.pop() == nil {
			t.Fatal("not tried again although a node changed")
		}
		q.failed(a.UID, nodeChange)
		q.clusterChanged(nodeChange)
		q.add(pod("fresh"))
		for _, want := range []string{"fresh", "a"} {
			if got := q.pop(); got == nil || got.Name != want {
				t.Errorf("got %v, want %s", got, want)
			}
		}
	})
}

// TestAnErrorKeepsItsPause: what could not be written is not tried at once, even by an idle scheduler.
func TestAnErrorKeepsItsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, a := newPodQueue(), pod("a")
		start := time.Now()
		q.add(a)
		q.pop()
		q.retryLater(a.UID)
		if q.next(t.Context()) == nil || time.Since(start) != time.Second {
			t.Errorf("tried again after %v, want 1s", time.Since(start))
		}
	})
}

func TestAChangeDuringTheTryIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, a := newPodQueue(), pod("a")
		q.add(a)
		q.pop()
		q.clusterChanged(nodeChange)
		q.failed(a.UID, nodeChange)
		if q.next(t.Context()) == nil {
			t.Error("the change was lost")
		}
	})
}
