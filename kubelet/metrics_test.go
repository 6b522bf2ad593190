package kubelet

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/kubelet/runtime"
)

// TestResourceMetrics: the text which metrics-server parses.
func TestResourceMetrics(t *testing.T) {
	at := time.UnixMilli(1790000000123)
	used := func(cpu time.Duration, memory uint64) measurement {
		return measurement{Usage: runtime.Usage{CPU: cpu, WorkingSet: memory}, at: at, started: at.Add(-90 * time.Second)}
	}
	pods := []podMeasurement{{
		measurement: used(1500*time.Millisecond, 3<<20),
		pod:         &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}},
		containers:  []containerMeasurement{{used(time.Second, 2<<20), "app"}, {used(500*time.Millisecond, 1<<20), "log"}},
	}}
	var text strings.Builder
	writeResourceMetrics(&text, used(time.Hour, 1<<30), pods, false)
	want := `# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="app",namespace="default",pod="web"} 1 1790000000123
container_cpu_usage_seconds_total{container="log",namespace="default",pod="web"} 0.5 1790000000123
# HELP container_memory_working_set_bytes [STABLE] Current working set of the container in bytes
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="app",namespace="default",pod="web"} 2.097152e+06 1790000000123
container_memory_working_set_bytes{container="log",namespace="default",pod="web"} 1.048576e+06 1790000000123
# HELP container_start_time_seconds [STABLE] Start time of the container since unix epoch in seconds
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="app",namespace="default",pod="web"} 1.789999910123e+09
container_start_time_seconds{container="log",namespace="default",pod="web"} 1.789999910123e+09
# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the node in core-seconds
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 3600 1790000000123
# HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1.073741824e+09 1790000000123
# HELP pod_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the pod in core-seconds
# TYPE pod_cpu_usage_seconds_total counter
pod_cpu_usage_seconds_total{namespace="default",pod="web"} 1.5 1790000000123
# HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
# TYPE pod_memory_working_set_bytes gauge
pod_memory_working_set_bytes{namespace="default",pod="web"} 3.145728e+06 1790000000123
# HELP resource_scrape_error [STABLE] 1 if there was an error while getting container metrics, 0 otherwise
# TYPE resource_scrape_error gauge
resource_scrape_error 0
`
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
}
