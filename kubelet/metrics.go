package kubelet

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/podarium/podarium/kubelet/runtime"
)

// metric is one of /metrics/resource, with upstream's name and help text.
type metric struct{ name, kind, help string }

var (
	containerCPU    = metric{"container_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the container in core-seconds"}
	containerMemory = metric{"container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes"}
	containerStart  = metric{"container_start_time_seconds", "gauge", "[STABLE] Start time of the container since unix epoch in seconds"}
	nodeCPU         = metric{"node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds"}
	nodeMemory      = metric{"node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes"}
	podCPU          = metric{"pod_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds"}
	podMemory       = metric{"pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes"}
	scrapeError     = metric{"resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"}
)

// serveResourceMetrics is what metrics-server reads, for kubectl top and autoscalers.
func (k *Kubelet) serveResourceMetrics(w http.ResponseWriter, _ *http.Request) {
	node, err := runtime.MachineUsage()
	if err != nil {
		slog.Warn("Measuring the node", "error", err)
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	writeResourceMetrics(w, measurement{Usage: node, at: time.Now()}, k.measure(), err != nil)
}

// writeResourceMetrics writes all metrics in the order of their names, as a registry would.
func writeResourceMetrics(w io.Writer, node measurement, pods []podMeasurement, failed bool) {
	eachContainer := func(m metric, value func(measurement) float64, stamped bool) {
		m.head(w)
		for _, pod := range pods {
			for _, c := range pod.containers {
				labels := fmt.Sprintf("{container=%q,namespace=%q,pod=%q}", c.name, pod.pod.Namespace, pod.pod.Name)
				m.sample(w, labels, value(c.measurement), c.at, stamped)
			}
		}
	}
	eachPod := func(m metric, value func(measurement) float64) {
		m.head(w)
		for _, pod := range pods {
			m.sample(w, fmt.Sprintf("{namespace=%q,pod=%q}", pod.pod.Namespace, pod.pod.Name), value(pod.measurement), pod.at, true)
		}
	}
	seconds := func(m measurement) float64 { return m.CPU.Seconds() }
	bytes := func(m measurement) float64 { return float64(m.WorkingSet) }
	eachContainer(containerCPU, seconds, true)
	eachContainer(containerMemory, bytes, true)
	eachContainer(containerStart, func(m measurement) float64 { return float64(m.started.UnixMilli()) / 1e3 }, false)
	nodeCPU.head(w)
	nodeCPU.sample(w, "", seconds(node), node.at, true)
	nodeMemory.head(w)
	nodeMemory.sample(w, "", bytes(node), node.at, true)
	eachPod(podCPU, seconds)
	eachPod(podMemory, bytes)
	scrapeError.head(w)
	trouble := 0.0
	if failed {
		trouble = 1
	}
	scrapeError.sample(w, "", trouble, node.at, false)
}

func (m metric) head(w io.Writer) {
	fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
}

// sample writes a value, and its time when it was measured at one.
func (m metric) sample(w io.Writer, labels string, value float64, at time.Time, stamped bool) {
	fmt.Fprintf(w, "%s%s %g", m.name, labels, value)
	if stamped {
		fmt.Fprintf(w, " %d", at.UnixMilli())
	}
	fmt.Fprintln(w)
}
