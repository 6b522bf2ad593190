package kubelet

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
)

// sentEvents is a sink which notes when an event arrives.
type sentEvents struct {
	record.EventSink
	at []time.Time
}

func (s *sentEvents) Create(event *corev1.Event) (*corev1.Event, error) {
	s.at = append(s.at, time.Now())
	return event, nil
}

func (s *sentEvents) Patch(event *corev1.Event, _ []byte) (*corev1.Event, error) {
	return s.Create(event)
}

// TestEventsComeLast: with nothing to start an event goes at once, else after the starts, new pods
// included, and a second after it happened in any case.
func TestEventsComeLast(t *testing.T) {
	const start = 300 * time.Millisecond
	for name, c := range map[string]struct {
		starts int
		wait   time.Duration
	}{
		"idle":     {0, 0},
		"one":      {1, start},
		"three":    {3, 3 * start},
		"too many": {5, maxEventDelay},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, sent := newGate(1), &sentEvents{}
				var starts sync.WaitGroup
				defer starts.Wait()
				for range c.starts {
					starts.Go(func() {
						if g.enter(t.Context(), newPod) {
							time.Sleep(start)
							g.leave()
						}
					})
					synctest.Wait()
				}
				event, began := &corev1.Event{LastTimestamp: metav1.Now()}, time.Now()
				sink := lateSink{sent, t.Context(), g}
				if _, err := sink.Create(event); err != nil {
					t.Fatal(err)
				}
				if _, err := sink.Patch(event, nil); err != nil {
					t.Fatal(err)
				}
				for i, at := range sent.at {
					if waited := at.Sub(began); waited != c.wait {
						t.Errorf("event %d was sent after %v, want %v", i, waited, c.wait)
					}
				}
				if len(sent.at) != 2 {
					t.Errorf("%d events were sent, want 2", len(sent.at))
				}
			})
		})
	}
}
