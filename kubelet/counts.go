package kubelet

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// counts are what the kubelet tells of its own work at /metrics and, of probes, at /metrics/probes,
// with the names, labels and buckets of upstream's kubelet.
type counts struct {
	own, probing *prometheus.Registry

	podStart                         prometheus.Histogram
	startedPods                      prometheus.Counter
	startedContainers, startFailures *prometheus.CounterVec
	evictions                        *prometheus.CounterVec
	probes                           *prometheus.CounterVec
}

// podStartBuckets are fine in the first seconds and go up to an hour.
var podStartBuckets = []float64{0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600}

// newCounts counts from zero; what runs is asked when somebody looks.
func newCounts(node string, running func() (pods int, containers map[string]int)) *counts {
	c := &counts{
		own: prometheus.NewRegistry(), probing: prometheus.NewRegistry(),
		podStart: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "kubelet_pod_start_duration_seconds", Buckets: podStartBuckets,
			Help: "[ALPHA] Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
		}),
		startedPods: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "kubelet_started_pods_total",
			Help: "[ALPHA] Cumulative number of pods started",
		}),
		startedContainers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_started_containers_total",
			Help: "[ALPHA] Cumulative number of containers started",
		}, []string{"container_type"}),
		startFailures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_started_containers_errors_total",
			Help: "[ALPHA] Cumulative number of errors when starting containers",
		}, []string{"container_type", "code"}),
		evictions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "kubelet_evictions",
			Help: "[ALPHA] Cumulative number of pod evictions by eviction signal",
		}, []string{"eviction_signal"}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "prober_probe_total",
			Help: "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.",
		},
			[]string{"probe_type", "result", "container", "pod", "namespace", "pod_uid"}),
	}
	name := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kubelet_node_name", Help: "[ALPHA] The node's name. The count is always 1."}, []string{"node"})
	name.WithLabelValues(node).Set(1)
	c.own.MustRegister(name, c.podStart, c.startedPods, c.startedContainers, c.startFailures, c.evictions, runningNow(running),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	c.probing.MustRegister(c.probes)
	return c
}

// runningNow is a collector which counts when it is asked.
type runningNow func() (pods int, containers map[string]int)

var (
	runningPods       = prometheus.NewDesc("kubelet_running_pods", "[ALPHA] Number of pods that have a running pod sandbox", nil, nil)
	runningContainers = prometheus.NewDesc("kubelet_running_containers", "[ALPHA] Number of containers currently running", []string{"container_state"}, nil)
)

func (r runningNow) Describe(to chan<- *prometheus.Desc) {
	to <- runningPods
	to <- runningContainers
}

func (r runningNow) Collect(to chan<- prometheus.Metric) {
	pods, containers := r()
	to <- prometheus.MustNewConstMetric(runningPods, prometheus.GaugeValue, float64(pods))
	for state, n := range containers {
		to <- prometheus.MustNewConstMetric(runningContainers, prometheus.GaugeValue, float64(n), state)
	}
}

// running counts the pods with a sandbox, and the containers by state as a runtime tells it.
func (k *Kubelet) running() (pods int, containers map[string]int) {
	containers = map[string]int{}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		w.mu.Lock()
		if w.sandbox != nil {
			pods++
		}
		for _, c := range w.containers {
			switch {
			case c.running:
				containers["running"]++
			case c.exit != nil:
				containers["exited"]++
			}
		}
		w.mu.Unlock()
	}
	return pods, containers
}

func serveCounts(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{})
}

// podRuns notes the first time that a pod's phase is Running. This kubelet has started it, if it has
// not run when it was first seen.
func (c *counts) podRuns(before, after corev1.PodPhase, seen time.Time) {
	if after == corev1.PodRunning && (before == "" || before == corev1.PodPending) {
		c.podStart.Observe(time.Since(seen).Seconds())
	}
}

// podSandbox is what upstream's metrics call a sandbox, which is a container elsewhere.
const podSandbox = "pod_sandbox"

// containerType is how they call the kinds of containers.
func containerType(pod *corev1.Pod, c *corev1.Container) string {
	switch {
	case isInit(pod, c):
		return "init_container"
	case ephemeral(pod, c.Name) != nil:
		return "ephemeral_container"
	default:
		return "container"
	}
}

// probed notes one answer of a probe.
func (c *counts) probed(p prober, kind string, ok bool) {
	result := "failed"
	if ok {
		result = "successful"
	}
	c.probes.WithLabelValues(kind, result, p.container.Name, p.pod.Name, p.pod.Namespace, string(p.pod.UID)).Inc()
}

// forget drops the counts of a pod which is gone: each would be kept for ever.
func (c *counts) forget(pod types.UID) {
	c.probes.DeletePartialMatch(prometheus.Labels{"pod_uid": string(pod)})
}
