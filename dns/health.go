package dns

import (
	"context"
	"fmt"
	"net/http"
)

// serveHealth answers a kubelet's probes: /healthz, the process runs; /readyz,
// everything has been seen once and nobody has asked us to end. (/health and
// /ready, as CoreDNS calls them, are the same.)
func (s *Server) serveHealth(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	healthy := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }
	ready := func(w http.ResponseWriter, _ *http.Request) {
		switch {
		case !s.synced.Load():
			http.Error(w, "waiting for the first list of services", http.StatusServiceUnavailable)
		case s.leaving.Load():
			http.Error(w, "leaving", http.StatusServiceUnavailable)
		default:
			fmt.Fprintln(w, "ok")
		}
	}
	mux.HandleFunc("GET /healthz", healthy)
	mux.HandleFunc("GET /health", healthy)
	mux.HandleFunc("GET /readyz", ready)
	mux.HandleFunc("GET /ready", ready)
	if err := serveHTTP(ctx, address, mux); err != nil {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}
