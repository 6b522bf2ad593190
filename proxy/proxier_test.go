package proxy

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// clock is a Backend that tells when it was asked to sync, and how much.
type clock chan tick

type tick struct {
	at    time.Time
	ports int
}

func (c clock) Sync(_ context.Context, snapshot *Snapshot) error {
	c <- tick{time.Now(), len(snapshot.Ports)}
	return nil
}
func (clock) Check(context.Context) (bool, error) { return true, nil }
func (clock) Cleanup(context.Context) error       { return nil }

// TestMinSyncPeriod: changes which come faster than a sync may follow another are
// taken together, and none is forgotten.
func TestMinSyncPeriod(t *testing.T) {
	const pause, services = 100 * time.Millisecond, 20
	syncs, metrics := make(clock), newMetrics()
	cfg := Config{Node: "node-1", Backends: map[corev1.IPFamily]Backend{corev1.IPv4Protocol: syncs}, SyncPeriod: time.Minute, MinSyncPeriod: pause}
	p, err := newProxier(cfg, corev1.IPv4Protocol, newHealth(time.Minute, bothFamilies, metrics), metrics)
	if err != nil {
		t.Fatal(err)
	}
	go p.loop(t.Context())
	go func() {
		p.send(t.Context(), change{apply: func() { p.seenAll = true }})
		for i := range services {
			svc := readService(&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprint("s", i)},
				Spec:       corev1.ServiceSpec{ClusterIP: fmt.Sprint("10.96.0.", i+1), Ports: []corev1.ServicePort{{Port: 80}}},
			})
			p.send(t.Context(), change{apply: func() { p.setService(svc) }})
			<-time.After(pause / 5)
		}
	}()
	var before tick
	for number := 0; before.ports < services; number++ {
		now := <-syncs
		if wait := now.at.Sub(before.at); wait < pause {
			t.Errorf("sync %d came %v after the one before", number, wait)
		}
		if number > services {
			t.Fatalf("%d syncs, and still only %d of %d Services", number, now.ports, services)
		}
		before = now
	}
}
