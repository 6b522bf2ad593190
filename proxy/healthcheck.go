package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// HealthChecks answers on the healthCheckNodePorts of Services: a load balancer
// asks there whether this node has an endpoint of externalTrafficPolicy Local.
type HealthChecks struct {
	addresses []netip.Addr // on which to answer; none: all
	healthy   func() bool  // the proxy itself
	open      map[uint16]*healthCheck
}

// NewHealthChecks answers on these addresses of the node, or on all when there
// are none. healthy tells whether the proxy keeps up with changes.
func NewHealthChecks(addresses []netip.Addr, healthy func() bool) *HealthChecks {
	return &HealthChecks{addresses: addresses, healthy: healthy, open: map[uint16]*healthCheck{}}
}

// healthCheck is one Service's port.
type healthCheck struct {
	service ServiceName
	local   atomic.Int64
	server  *http.Server
}

// healthCheckPort is what a snapshot says of one.
type healthCheckPort struct {
	service ServiceName
	local   int // ready endpoints on this node
}

// healthCheckPorts are those of a snapshot.
func (s *Snapshot) healthCheckPorts() map[uint16]healthCheckPort {
	ports := map[uint16]healthCheckPort{}
	for _, p := range s.Ports {
		if p.HealthCheckNodePort != 0 {
			ports[p.HealthCheckNodePort] = healthCheckPort{p.Name.ServiceName, p.localReady}
		}
	}
	return ports
}

// sync opens, updates and closes ports. One that cannot be opened is another
// program's; it is tried again with the next change.
func (h *HealthChecks) sync(ctx context.Context, family corev1.IPFamily, snapshot *Snapshot) {
	wanted := snapshot.healthCheckPorts()
	for _, number := range slices.Sorted(maps.Keys(h.open)) {
		check := h.open[number]
		if w, ok := wanted[number]; !ok || w.service != check.service {
			slog.Info("Closing healthcheck", "service", check.service, "port", number)
			check.server.Close()
			delete(h.open, number)
		}
	}
	for _, number := range slices.Sorted(maps.Keys(wanted)) {
		check := h.open[number]
		if check == nil {
			slog.Info("Opening healthcheck", "service", wanted[number].service, "port", number)
			check = &healthCheck{service: wanted[number].service}
			if err := check.serve(ctx, h, family, number); err != nil {
				slog.Error("Failed to start healthcheck", "service", check.service, "port", number, "err", err)
				check.server.Close()
				continue
			}
			h.open[number] = check
		}
		check.local.Store(int64(wanted[number].local))
	}
}

func (c *healthCheck) serve(ctx context.Context, h *HealthChecks, family corev1.IPFamily, number uint16) error {
	hosts := []string{""}
	if len(h.addresses) > 0 {
		hosts = nil
		for _, a := range h.addresses {
			hosts = append(hosts, a.String())
		}
	}
	c.server = &http.Server{Handler: c.handler(h.healthy), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	for _, host := range hosts {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, network(family), net.JoinHostPort(host, strconv.Itoa(int(number))))
		if err != nil {
			return fmt.Errorf("open health check node port: %w", err)
		}
		go func() {
			if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				slog.Error("Healthcheck closed", "service", c.service, "err", err)
			}
		}()
	}
	return nil
}

// healthCheckAnswer is its body, in kube-proxy's form.
type healthCheckAnswer struct {
	Service struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"service"`
	LocalEndpoints      int64 `json:"localEndpoints"`
	ServiceProxyHealthy bool  `json:"serviceProxyHealthy"`
}

func (c *healthCheck) handler(healthy func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := healthCheckAnswer{LocalEndpoints: c.local.Load(), ServiceProxyHealthy: healthy()}
		a.Service.Namespace, a.Service.Name = c.service.Namespace, c.service.Name
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Load-Balancing-Endpoint-Weight", strconv.FormatInt(a.LocalEndpoints, 10))
		if a.LocalEndpoints == 0 || !a.ServiceProxyHealthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		body, _ := json.MarshalIndent(a, "", "\t") // strings and numbers
		w.Write(body)
	})
}

// network is "tcp4" or "tcp6".
func network(family corev1.IPFamily) string {
	if family == corev1.IPv6Protocol {
		return "tcp6"
	}
	return "tcp4"
}
