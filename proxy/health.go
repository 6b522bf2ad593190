package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
)

// health answers a load balancer's question whether this node carries
// Services: yes, unless a change has been waiting for longer than two sync
// periods.
type health struct {
	period time.Duration

	mu      sync.Mutex
	last    time.Time // last successful sync
	pending time.Time // since when a change waits; zero: none does
}

func newHealth(period time.Duration) *health { return &health{period: period} }

func (h *health) queued() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pending.IsZero() {
		h.pending = time.Now()
	}
}

func (h *health) updated() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.pending = time.Now(), time.Time{}
}

func (h *health) healthy(now time.Time) (bool, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last.IsZero() {
		return false, now
	}
	if h.pending.IsZero() {
		return true, now
	}
	return now.Sub(h.pending) < 2*h.period, h.last
}

// serve answers /healthz and /livez in kube-proxy's form.
func (h *health) serve(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", h.answer)
	mux.HandleFunc("GET /livez", h.answer)
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopped := context.AfterFunc(ctx, func() { server.Close() })
	defer stopped()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health on %s: %w", address, err)
	}
	return nil
}

func (h *health) answer(w http.ResponseWriter, r *http.Request) {
	now := time.Now().UTC()
	ok, updated := h.healthy(now)
	family := map[string]any{"lastUpdated": updated.UTC().String(), "healthy": ok}
	body := map[string]any{
		"lastUpdated": updated.UTC().String(),
		"currentTime": now.String(),
		"healthy":     ok,
		"status":      map[string]any{"IPv4": family},
	}
	if r.URL.Path == "/healthz" {
		body["nodeEligible"] = true
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(body) // the client went away
}

// onlyNode selects one node by name.
func onlyNode(name string) func(*metav1.ListOptions) {
	return func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector("metadata.name", name).String()
	}
}
