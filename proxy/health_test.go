package proxy

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// get asks one of the two answers and returns its code and what its body says.
func get(t *testing.T, h *health, path string) (int, map[string]any) {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.handler().ServeHTTP(recorder, httptest.NewRequest(http.MethodGet, path, nil))
	if recorder.Code == http.StatusNotFound {
		return recorder.Code, nil
	}
	if got := recorder.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("%s: Content-Type %q", path, got)
	}
	var body map[string]any
	if err := json.Unmarshal(recorder.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	return recorder.Code, body
}

var bothFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}

// TestHealth: what a load balancer is told while changes wait and nodes leave.
func TestHealth(t *testing.T) {
	tainted := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}}}
	deleted := &corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: time.Now()}}}
	for _, tc := range []struct {
		name           string
		period         time.Duration
		happens        func(h *health)
		healthz, livez int
	}{
		{"just started", time.Minute, func(*health) {}, 200, 200},
		{"a change waits, not yet for long", time.Minute, func(h *health) { h.queued(corev1.IPv4Protocol) }, 200, 200},
		{"a change waits for too long", 0, func(h *health) { h.queued(corev1.IPv6Protocol) }, 503, 503},
		{"it is applied at last", 0, func(h *health) { h.queued(corev1.IPv6Protocol); h.synced(corev1.IPv6Protocol) }, 200, 200},
		{"the autoscaler will delete the node", time.Minute, func(h *health) { h.setNode(tainted) }, 503, 200},
		{"it has changed its mind", time.Minute, func(h *health) { h.setNode(tainted); h.setNode(&corev1.Node{}) }, 200, 200},
		{"the node is being deleted", time.Minute, func(h *health) { h.setNode(deleted) }, 503, 200},
		{"the node is gone", time.Minute, func(h *health) { h.setNode(nil) }, 503, 200},
	} {
		h := newHealth(tc.period, bothFamilies, newMetrics())
		tc.happens(h)
		code, body := get(t, h, "/healthz")
		if code != tc.healthz {
			t.Errorf("%s: /healthz answers %d, want %d", tc.name, code, tc.healthz)
		}
		if _, told := body["nodeEligible"]; !told {
			t.Errorf("%s: /healthz does not tell whether the node is eligible", tc.name)
		}
		code, body = get(t, h, "/livez")
		if code != tc.livez {
			t.Errorf("%s: /livez answers %d, want %d", tc.name, code, tc.livez)
		}
		if _, told := body["nodeEligible"]; told {
			t.Errorf("%s: /livez tells whether the node is eligible", tc.name)
		}
		if families := body["status"].(map[string]any); len(families) != 2 {
			t.Errorf("%s: the status is of %v", tc.name, families)
		}
		if code, _ = get(t, h, "/readyz"); code != http.StatusNotFound {
			t.Errorf("%s: /readyz answers %d", tc.name, code)
		}
	}
}
