package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// health answers a load balancer's question whether this node carries
// Services: yes, unless a change has been waiting for longer than two sync
// periods, or the node is about to go.
type health struct {
	period  time.Duration
	metrics *metrics

	mu       sync.Mutex
	families map[corev1.IPFamily]*familyHealth
	leaving  bool // the Node is deleted, or the autoscaler is about to delete it
}

// familyHealth is what an IP family's proxier has told.
type familyHealth struct {
	updated time.Time // last successful sync
	pending time.Time // since when a change waits; zero: none does
}

func newHealth(period time.Duration, families []corev1.IPFamily, metrics *metrics) *health {
	h := &health{period: period, metrics: metrics, families: map[corev1.IPFamily]*familyHealth{}}
	for _, family := range families {
		h.families[family] = &familyHealth{}
	}
	return h
}

func (h *health) queued(family corev1.IPFamily) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.families[family]; f.pending.IsZero() {
		f.pending = time.Now()
	}
}

func (h *health) synced(family corev1.IPFamily) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*h.families[family] = familyHealth{updated: time.Now().UTC()}
}

// toBeDeleted is the taint by which the cluster autoscaler announces that it
// will remove a node.
const toBeDeleted = "ToBeDeletedByClusterAutoscaler"

// setNode: no new connections for a node that is being deleted; nil is one that
// is gone.
func (h *health) setNode(node *corev1.Node) {
	leaving := node == nil || node.DeletionTimestamp != nil ||
		slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == toBeDeleted })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.leaving = leaving
}

// healthReport is the body of an answer, in kube-proxy's form.
type healthReport struct {
	LastUpdated  time.Time                      `json:"lastUpdated"`
	CurrentTime  time.Time                      `json:"currentTime"`
	NodeEligible *bool                          `json:"nodeEligible,omitempty"`
	Healthy      bool                           `json:"healthy"`
	Status       map[corev1.IPFamily]familyLine `json:"status"`
}

type familyLine struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// report looks at all families. A proxy that has not yet begun is healthy: the
// rules of the one before it are still there.
func (h *health) report(now time.Time) (r healthReport, leaving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r = healthReport{CurrentTime: now, Healthy: true, Status: map[corev1.IPFamily]familyLine{}}
	for family, f := range h.families {
		healthy := f.pending.IsZero() || now.Sub(f.pending) < 2*h.period
		updated := f.updated
		if healthy {
			updated = now
		}
		if r.LastUpdated.IsZero() || updated.Before(r.LastUpdated) {
			r.LastUpdated = updated
		}
		r.Healthy = r.Healthy && healthy
		r.Status[family] = familyLine{updated, healthy}
	}
	return r, h.leaving
}

// healthy tells whether all families are.
func (h *health) healthy() bool {
	r, _ := h.report(time.Now())
	return r.Healthy
}

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		r, leaving := h.report(time.Now().UTC())
		r.NodeEligible = new(!leaving)
		h.metrics.healthz.WithLabelValues(answer(w, r, r.Healthy && !leaving)).Inc()
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		r, _ := h.report(time.Now().UTC())
		h.metrics.livez.WithLabelValues(answer(w, r, r.Healthy)).Inc()
	})
	return mux
}

func answer(w http.ResponseWriter, r healthReport, ok bool) (code string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	w.WriteHeader(status)
	body, _ := json.Marshal(r) // times and booleans
	w.Write(body)
	return fmt.Sprint(status)
}

// serveHTTP answers on an address until ctx is done. It returns when the port is
// ours.
func serveHTTP(ctx context.Context, address string, handler http.Handler, failed func(error)) error {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", address, err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	context.AfterFunc(ctx, func() { server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("serve %s: %w", address, err))
		}
	}()
	return nil
}
