package proxy

import (
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	corev1 "k8s.io/api/core/v1"
)

// metrics have kube-proxy's names and buckets, so that dashboards made for it
// show this proxy too. What only one mode can count its backend does, as a
// prometheus.Collector.
type metrics struct {
	registry *prometheus.Registry

	sync, full, partial *prometheus.HistogramVec
	programming         *prometheus.HistogramVec
	queued, synced      *prometheus.GaugeVec
	noLocal             *prometheus.GaugeVec
	services, endpoints changes
	healthz, livez      *prometheus.CounterVec
}

// changes of a kind of object: how many there were, and how many wait.
type changes struct {
	total   prometheus.Counter
	pending prometheus.Gauge
}

// programmingBuckets are fine below a second, and go up to five minutes.
var programmingBuckets = append(append(append(append([]float64{0.25, 0.5},
	prometheus.LinearBuckets(1, 1, 59)...), prometheus.LinearBuckets(60, 5, 12)...), prometheus.LinearBuckets(120, 30, 6)...), 300)

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	buckets := prometheus.ExponentialBuckets(0.001, 2, 15)
	m.sync = m.histogram("sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", buckets)
	m.full = m.histogram("sync_full_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for full resyncs", buckets)
	m.partial = m.histogram("sync_partial_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds for partial resyncs", buckets)
	m.programming = m.histogram("network_programming_duration_seconds", "In Cluster Network Programming Latency in seconds", programmingBuckets)
	m.queued = m.gauge("sync_proxy_rules_last_queued_timestamp_seconds", "The last time a sync of proxy rules was queued", "ip_family")
	m.synced = m.gauge("sync_proxy_rules_last_timestamp_seconds", "The last time proxy rules were successfully synced", "ip_family")
	m.noLocal = m.gauge("sync_proxy_rules_no_local_endpoints_total", "Number of services with a Local traffic policy and no endpoints", "ip_family", "traffic_policy")
	m.services = m.changes("service", "Service")
	m.endpoints = m.changes("endpoint", "Endpoint")
	m.healthz = m.counter("proxy_healthz_total", "Cumulative proxy healthz HTTP status", "code")
	m.livez = m.counter("proxy_livez_total", "Cumulative proxy livez HTTP status", "code")
	return m
}

func (m *metrics) histogram(name, help string, buckets []float64) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "kubeproxy", Name: name, Help: "[ALPHA] " + help, Buckets: buckets}, []string{"ip_family"})
	m.registry.MustRegister(v)
	return v
}

func (m *metrics) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "kubeproxy", Name: name, Help: "[ALPHA] " + help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *metrics) counter(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "kubeproxy", Name: name, Help: "[ALPHA] " + help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *metrics) changes(name, word string) changes {
	return changes{
		total:   m.counter("sync_proxy_rules_"+name+"_changes_total", "Cumulative proxy rules "+word+" changes").WithLabelValues(),
		pending: m.gauge("sync_proxy_rules_"+name+"_changes_pending", "Pending proxy rules "+word+" changes").WithLabelValues(),
	}
}

// applied records a sync that began at began; triggers are when the changes it
// brought to the node were made in the cluster.
func (m *metrics) applied(family corev1.IPFamily, snapshot *Snapshot, full bool, began time.Time, triggers []time.Time) {
	now, label := time.Now(), string(family)
	took := now.Sub(began).Seconds()
	m.sync.WithLabelValues(label).Observe(took)
	if full {
		m.full.WithLabelValues(label).Observe(took)
	} else {
		m.partial.WithLabelValues(label).Observe(took)
	}
	m.synced.WithLabelValues(label).Set(float64(now.UnixMilli()) / 1000)
	for _, t := range triggers {
		m.programming.WithLabelValues(label).Observe(now.Sub(t).Seconds())
	}
	internal, external := snapshot.withoutLocal()
	m.noLocal.WithLabelValues(label, "internal").Set(float64(internal))
	m.noLocal.WithLabelValues(label, "external").Set(float64(external))
}

// handler is what kube-proxy answers on 127.0.0.1:10249.
func (m *metrics) handler(mode string, configz []byte) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	text := func(path, contentType, body string) {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("X-Content-Type-Options", "nosniff")
			io.WriteString(w, body)
		})
	}
	text("/healthz", "text/plain; charset=utf-8", "ok")
	text("/proxyMode", "text/plain; charset=utf-8", mode)
	text("/configz", "application/json", string(configz))
	return mux
}
