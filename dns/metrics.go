package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/podarium/podarium/internal/kube"
)

// proto is how a question came.
type proto int

const (
	protoUDP proto = iota
	protoTCP
)

var protoNames = [...]string{"udp", "tcp"}

// metrics go by the names CoreDNS gives them, so that its dashboards and
// alerts show this server too. What every query counts is looked up once,
// here, and is an atomic addition afterwards.
type metrics struct {
	registry *prometheus.Registry
	server   string // the label: "dns://:53"

	requests     [2][2][256]prometheus.Counter // by proto, family (IPv4, IPv6), type
	responses    [16]prometheus.Counter        // by rcode
	duration     prometheus.Observer
	requestSize  [2]prometheus.Observer
	responseSize [2]prometheus.Observer

	rejected    prometheus.Counter
	hits        *prometheus.CounterVec
	misses      prometheus.Counter
	prefetches  prometheus.Counter
	stale       prometheus.Counter
	upstream    *prometheus.HistogramVec
	failures    *prometheus.CounterVec
	programming prometheus.Observer
}

func newMetrics(address string) *metrics {
	m := &metrics{registry: prometheus.NewRegistry(), server: "dns://" + address}
	m.queries()
	m.forwarding()
	build := m.counterVec("coredns_build_info", "Version of this server.", "version", "revision", "goversion")
	build.WithLabelValues(kube.Version, "", runtime.Version()).Inc()
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// knownTypes have a label of their own; all others count as "other".
var knownTypes = []uint16{
	dns.TypeA, dns.TypeNS, dns.TypeCNAME, dns.TypeSOA, dns.TypePTR, dns.TypeMX, dns.TypeTXT, dns.TypeAAAA,
	dns.TypeSRV, dns.TypeNAPTR, dns.TypeDS, dns.TypeRRSIG, dns.TypeNSEC, dns.TypeDNSKEY, dns.TypeSVCB, dns.TypeHTTPS, dns.TypeANY,
}

func (m *metrics) queries() {
	requests := m.counterVec("coredns_dns_requests_total", "Questions.", "server", "zone", "view", "proto", "family", "type")
	for p := range m.requests {
		for f := range m.requests[p] {
			count := func(name string) prometheus.Counter {
				return requests.WithLabelValues(m.server, ".", "", protoNames[p], fmt.Sprint(f+1), name)
			}
			for t := range m.requests[p][f] {
				m.requests[p][f][t] = count("other")
			}
			for _, t := range knownTypes {
				m.requests[p][f][t] = count(dns.TypeToString[t])
			}
		}
	}
	responses := m.counterVec("coredns_dns_responses_total", "Answers.", "server", "zone", "view", "rcode", "plugin")
	for code := range m.responses {
		m.responses[code] = responses.WithLabelValues(m.server, ".", "", dns.RcodeToString[code], "kubernetes")
	}
	durations := m.histogramVec("coredns_dns_request_duration_seconds", "From question to answer.", prometheus.ExponentialBuckets(0.00025, 2, 16), "server", "zone", "view")
	m.duration = durations.WithLabelValues(m.server, ".", "")
	sizes := []float64{0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16e3, 32e3, 48e3, 64e3}
	requestSizes := m.histogramVec("coredns_dns_request_size_bytes", "Size of questions.", sizes, "server", "zone", "view", "proto")
	responseSizes := m.histogramVec("coredns_dns_response_size_bytes", "Size of answers.", sizes, "server", "zone", "view", "proto")
	for p, name := range protoNames {
		m.requestSize[p] = requestSizes.WithLabelValues(m.server, ".", "", name)
		m.responseSize[p] = responseSizes.WithLabelValues(m.server, ".", "", name)
	}
	programming := m.histogramVec("coredns_kubernetes_dns_programming_duration_seconds", "From the change of an endpoint to its answer.", prometheus.ExponentialBuckets(0.001, 2, 20), "service_kind")
	m.programming = programming.WithLabelValues("headless_with_selector")
}

func (m *metrics) forwarding() {
	m.rejected = m.counterVec("coredns_forward_max_concurrent_rejects_total", "Questions dropped because too many answers were being composed.").WithLabelValues()
	m.hits = m.counterVec("coredns_cache_hits_total", "Answers from the cache.", "server", "type", "zones", "view")
	m.misses = m.counterVec("coredns_cache_misses_total", "Questions not in the cache.", "server", "zones", "view").WithLabelValues(m.server, ".", "")
	m.prefetches = m.counterVec("coredns_cache_prefetch_total", "Answers asked for again before they ended.", "server", "zones", "view").WithLabelValues(m.server, ".", "")
	m.stale = m.counterVec("coredns_cache_served_stale_total", "Answers given after their end.", "server", "zones", "view").WithLabelValues(m.server, ".", "")
	m.upstream = m.histogramVec("coredns_proxy_request_duration_seconds", "Time an upstream took.", prometheus.ExponentialBuckets(0.00025, 2, 16), "proxy_name", "to", "rcode")
	m.failures = m.counterVec("coredns_proxy_healthcheck_failures_total", "Probes without an answer.", "proxy_name", "to")
}

func (m *metrics) watchCache(c *answerCache) {
	for _, kind := range []bool{false, true} {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "coredns_cache_entries", Help: "Answers in the cache.",
			ConstLabels: prometheus.Labels{"server": m.server, "type": cacheType(kind), "zones": ".", "view": ""},
		}, func() float64 { return float64(c.count(kind)) }))
	}
}

// cacheType is CoreDNS's word for positive and negative.
func cacheType(denial bool) string {
	if denial {
		return "denial"
	}
	return "success"
}

func (m *metrics) counterVec(name, help string, labels ...string) *prometheus.CounterVec {
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.registry.MustRegister(v)
	return v
}

func (m *metrics) histogramVec(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.registry.MustRegister(v)
	return v
}

// observe counts an answer, and logs it when asked to.
func (s *Server) observe(p proto, client netip.AddrPort, packet, reply []byte, began time.Time) {
	took := time.Since(began)
	m := s.metrics
	family := 0
	if client.Addr().Is6() && !client.Addr().Is4In6() {
		family = 1
	}
	m.requests[p][family][questionType(reply)].Inc()
	m.responses[reply[3]&0x0f].Inc()
	m.duration.Observe(took.Seconds())
	m.requestSize[p].Observe(float64(len(packet)))
	m.responseSize[p].Observe(float64(len(reply)))
	if s.logQueries {
		logQuery(protoNames[p], client, packet, reply, took)
	}
}

// questionType reads the type of a reply's question, which we wrote: no name
// in it is a pointer. 0 for none, and for those which count as "other".
func questionType(reply []byte) byte {
	if reply[5] == 0 {
		return 0
	}
	n := headerSize
	for n < len(reply) && reply[n] != 0 {
		n += 1 + int(reply[n])
	}
	if n+3 > len(reply) {
		return 0
	}
	if t := binary.BigEndian.Uint16(reply[n+1:]); t < 256 {
		return byte(t)
	}
	return 0
}

// serve gives the metrics to Prometheus until ctx is done.
func (m *metrics) serve(ctx context.Context, address string) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	if err := serveHTTP(ctx, address, mux); err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

func serveHTTP(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
