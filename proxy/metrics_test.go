package proxy

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestMetrics: kube-proxy's names, types and labels, after a first sync.
func TestMetrics(t *testing.T) {
	m := newMetrics()
	h := newHealth(time.Minute, bothFamilies, m)
	get(t, h, "/healthz")
	get(t, h, "/livez")
	m.queued.WithLabelValues("IPv4").SetToCurrentTime()
	m.applied(corev1.IPv4Protocol, &Snapshot{}, true, time.Now(), []time.Time{time.Now()})
	m.applied(corev1.IPv4Protocol, &Snapshot{}, false, time.Now(), nil)
	recorder := httptest.NewRecorder()
	handler := m.handler("iptables", []byte("{}"))
	handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := recorder.Body.String()
	for want := range strings.Lines(`kubeproxy_network_programming_duration_seconds histogram ip_family
kubeproxy_proxy_healthz_total counter code
kubeproxy_proxy_livez_total counter code
kubeproxy_sync_full_proxy_rules_duration_seconds histogram ip_family
kubeproxy_sync_partial_proxy_rules_duration_seconds histogram ip_family
kubeproxy_sync_proxy_rules_duration_seconds histogram ip_family
kubeproxy_sync_proxy_rules_endpoint_changes_pending gauge
kubeproxy_sync_proxy_rules_endpoint_changes_total counter
kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds gauge ip_family
kubeproxy_sync_proxy_rules_last_timestamp_seconds gauge ip_family
kubeproxy_sync_proxy_rules_no_local_endpoints_total gauge ip_family,traffic_policy
kubeproxy_sync_proxy_rules_service_changes_pending gauge
kubeproxy_sync_proxy_rules_service_changes_total counter
process_resident_memory_bytes gauge
go_goroutines gauge
`) {
		words := strings.Fields(want)
		if !strings.Contains(text, "# TYPE "+words[0]+" "+words[1]+"\n") {
			t.Errorf("no %s %s", words[1], words[0])
		}
		if len(words) == 3 {
			labels := strings.ReplaceAll(words[2], ",", `="[^"]*",`) + `="`
			if !regexp.MustCompile(`(?m)^` + words[0] + `(_bucket)?\{` + labels).MatchString(text) {
				t.Errorf("%s has not the labels %s", words[0], words[2])
			}
		}
	}
	for path, want := range map[string]string{"/healthz": "ok", "/proxyMode": "iptables", "/configz": "{}", "/livez": "404 page not found\n"} {
		recorder := httptest.NewRecorder()
		handler.ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
		if got := recorder.Body.String(); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
