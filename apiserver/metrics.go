package apiserver

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// metrics are what this server counts, under upstream's names, so that
// dashboards made for Kubernetes show something.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	watches  *prometheus.GaugeVec
}

func newMetrics(st *store.Store) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "apiserver_request_total", Help: "Counter of apiserver requests broken out for each verb, group, version, resource, scope, component, and HTTP response code.",
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "component", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "apiserver_request_duration_seconds", Help: "Response latency distribution in seconds for each verb, group, version, resource, subresource, scope and component.",
			Buckets: []float64{0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 5, 10, 30, 60},
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}),
		watches: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "apiserver_longrunning_requests", Help: "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component.",
		}, []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}),
	}
	m.registry.MustRegister(m.requests, m.duration, m.watches, objectCounts{st},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// objectCounts tells how many objects of each resource there are.
type objectCounts struct{ store *store.Store }

var objectCount = prometheus.NewDesc("apiserver_storage_objects", "Number of stored objects at the time of last check split by kind.", []string{"resource"}, nil)

func (objectCounts) Describe(ch chan<- *prometheus.Desc) { ch <- objectCount }

func (c objectCounts) Collect(ch chan<- prometheus.Metric) {
	for _, k := range resource.Kinds {
		if k.Storage == nil {
			n := len(c.store.CachedList(k.Prefix, k.Prefix))
			ch <- prometheus.MustNewConstMetric(objectCount, prometheus.GaugeValue, float64(n), k.GR().String())
		}
	}
}

// longRunning requests last as long as the client likes.
func longRunning(r *request) bool {
	switch r.subresource {
	case "log", "exec", "attach", "portforward", "proxy":
		return true
	}
	if !r.isResource {
		return strings.HasPrefix(r.path, profiles)
	}
	return r.verb == "watch" || watches(r.Request)
}

// observe counts a request; the returned function is called at its end.
func (m *metrics) observe(r *request) (done func(code int)) {
	labels := requestLabels(r)
	started := time.Now()
	long := longRunning(r)
	if long {
		m.watches.WithLabelValues(labels...).Inc()
	}
	return func(code int) {
		m.requests.WithLabelValues(append(slices.Clip(labels), strconv.Itoa(code))...).Inc()
		if long {
			m.watches.WithLabelValues(labels...).Dec()
			return
		}
		m.duration.WithLabelValues(labels...).Observe(time.Since(started).Seconds())
	}
}

// requestLabels are in the order of the metrics' label names. Only resources
// that exist are named: else anybody could make as many time series as there
// are words.
func requestLabels(r *request) []string {
	verb, scope := upper(r.verb), ""
	switch {
	case r.kind == nil:
		return []string{verb, "", "", "", "", scope, "apiserver"}
	case r.name != "":
		scope = "resource"
	case r.namespace != "":
		scope = "namespace"
	default:
		scope = "cluster"
	}
	sub := r.subresource
	if !r.kind.HasSubresource(sub) {
		sub = ""
	}
	return []string{verb, r.group, r.version, r.resource, sub, scope, "apiserver"}
}

func upper(verb string) string {
	switch verb {
	case "create":
		return "POST"
	case "update":
		return "PUT"
	case "deletecollection":
		return "DELETECOLLECTION"
	case "get", "list", "watch", "patch", "delete":
		b := []byte(verb)
		for i := range b {
			b[i] -= 'a' - 'A'
		}
		return string(b)
	}
	return "other"
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// statusWriter remembers the code of an answer, and tells when it begins.
type statusWriter struct {
	http.ResponseWriter
	code    int
	started func(code int)
}

func (w *statusWriter) begin(code int) {
	if w.code == 0 {
		w.code = code
		w.started(code)
	}
}

func (w *statusWriter) WriteHeader(code int) {
	w.begin(code)
	w.ResponseWriter.WriteHeader(code)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// FlushError sends the header, if nothing was written yet: that is how a watch
// begins on which nothing happens.
func (w *statusWriter) FlushError() error {
	w.begin(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Hijack gives the connection to a protocol with streams.
func (w *statusWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.begin(http.StatusSwitchingProtocols)
	return http.NewResponseController(w.ResponseWriter).Hijack()
}

// Unwrap lets http.ResponseController flush and take over the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
