package iptables

import (
	"log/slog"
	"maps"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/internal/iptables"
)

// counts are the numbers of rules, which a scrape reads while a sync goes on.
type counts struct {
	mu    sync.Mutex
	last  map[string]iptables.Count // written by the last sync
	total map[string]int            // in force
}

func (c *counts) record(all map[string]int, written map[string]iptables.Count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, c.total = written, maps.Clone(all)
}

// The metrics which only iptables mode has, with kube-proxy's names.
var (
	lastRules  = prometheus.NewDesc("kubeproxy_sync_proxy_rules_iptables_last", "[ALPHA] Number of iptables rules written by kube-proxy in last sync", []string{"ip_family", "table"}, nil)
	totalRules = prometheus.NewDesc("kubeproxy_sync_proxy_rules_iptables_total", "[ALPHA] Total number of iptables rules owned by kube-proxy", []string{"ip_family", "table"}, nil)
	invalid    = prometheus.NewDesc("kubeproxy_iptables_ct_state_invalid_dropped_packets_total", "[ALPHA] packets dropped by iptables to work around conntrack problems", nil, nil)
	localhost  = prometheus.NewDesc("kubeproxy_iptables_localhost_nodeports_accepted_packets_total", "[ALPHA] Number of packets accepted on nodeports of loopback interface", nil, nil)
)

// Describe names no metric, for the backends of both families have the same
// ones, each with its own label.
func (b *Backend) Describe(chan<- *prometheus.Desc) {}

// Collect is prometheus.Collector.
func (b *Backend) Collect(ch chan<- prometheus.Metric) {
	b.counts.mu.Lock()
	for _, table := range []string{"filter", "nat"} {
		ch <- prometheus.MustNewConstMetric(lastRules, prometheus.GaugeValue, float64(b.counts.last[table].Rules), b.name(), table)
		ch <- prometheus.MustNewConstMetric(totalRules, prometheus.GaugeValue, float64(b.counts.total[table]), b.name(), table)
	}
	b.counts.mu.Unlock()
	if !b.nfacct || b.cfg.Family == corev1.IPv6Protocol { // one counter for both families
		return
	}
	packets, err := readCounters()
	if err != nil {
		slog.Debug("counters not read", "err", err)
		return
	}
	ch <- prometheus.MustNewConstMetric(invalid, prometheus.CounterValue, float64(packets[invalidCounter]))
	ch <- prometheus.MustNewConstMetric(localhost, prometheus.CounterValue, float64(packets[localhostCounter]))
}
