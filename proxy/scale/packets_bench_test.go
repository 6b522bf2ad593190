package scale

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// BenchmarkFirstPacket: opening a connection through the last of many Services.
// p50-µs is until the kernel has made it, answer-µs until the endpoint's first
// byte is there: in userspace mode the first is only the proxy's hand. Nodes of
// all sizes stand beside each other and take turns, for what else the machine
// does changes within seconds: ÷10 is against the node with 10 Services, ÷direct
// against the same endpoint without a Service.
func BenchmarkFirstPacket(b *testing.B) {
	sizes := []int{10, 1000, 10000}
	for mode := range strings.SplitSeq(*packetModes, ",") {
		b.Run(mode, func(b *testing.B) {
			var nodes []*node
			for _, services := range sizes {
				nodes = append(nodes, startNode(b, mode, services))
			}
			results := takeTurns(b, nodes)
			for i, services := range sizes {
				b.Run(strconv.Itoa(services), func(b *testing.B) {
					b.ReportMetric(0, "ns/op")
					results[i].report(b, results[0])
				})
			}
		})
	}
}

// opened is how long connections took: directly and through the Service, until
// they were made and until the first byte.
type opened struct{ direct, directAnswer, through, throughAnswer []time.Duration }

func (o *opened) report(b *testing.B, least *opened) {
	b.Helper()
	micro := func(list []time.Duration) float64 { return float64(median(list).Nanoseconds()) / 1000 }
	b.ReportMetric(micro(o.through), "p50-µs")
	b.ReportMetric(micro(o.through)/micro(o.direct), "÷direct")
	b.ReportMetric(micro(o.through)/micro(least.through), "÷10")
	b.ReportMetric(micro(o.throughAnswer), "answer-µs")
	b.ReportMetric(micro(o.throughAnswer)/micro(o.directAnswer), "answer÷direct")
}

// takeTurns opens connections on all nodes, a few at a time, with another node
// and another way first in each round. The first rounds warm up.
func takeTurns(b *testing.B, nodes []*node) []*opened {
	b.Helper()
	const warmUp, rounds, few = 5, 200, 10
	results := make([]*opened, len(nodes))
	for round := range warmUp + rounds {
		if round == warmUp || round == 0 {
			for i := range results {
				results[i] = &opened{}
			}
		}
		for turn := range nodes {
			i := (turn + round) % len(nodes)
			n, r := nodes[i], results[i]
			ways := []func(){
				func() { r.direct = append(r.direct, n.open(b, direct, few, toConnect)...) },
				func() { r.through = append(r.through, n.open(b, n.service, few, toConnect)...) },
				func() { r.directAnswer = append(r.directAnswer, n.open(b, direct, few, toHear)...) },
				func() { r.throughAnswer = append(r.throughAnswer, n.open(b, n.service, few, toHear)...) },
			}
			for way := range ways {
				ways[(way+round)%len(ways)]()
			}
		}
	}
	return results
}

// BenchmarkClusterIP: connections a second and bytes a second through a
// ClusterIP, as ratios to direct ones, of a single client. The two ways take
// turns many times; the figure is the median of the turns' ratios, and spread is
// where the middle half of them is.
func BenchmarkClusterIP(b *testing.B) {
	for mode := range strings.SplitSeq(*packetModes, ",") {
		b.Run(mode, func(b *testing.B) {
			n := startNode(b, mode, 100)
			// All together some 8000: after 14 000 within a minute the userspace
			// proxy looks long for a port of its own that is not in TIME_WAIT.
			b.Run("connections", func(b *testing.B) {
				compare(b, 100, func(to string) time.Duration { return n.dial(b, to, 50) }, n.service)
			})
			b.Run("answers", func(b *testing.B) {
				compare(b, 100, func(to string) time.Duration { return sum(n.open(b, to, 25, toHear)) }, n.service)
			})
			b.Run("throughput", func(b *testing.B) {
				streams := map[string]*stream{direct: n.stream(b, direct), n.service: n.stream(b, n.service)}
				compare(b, 50, func(to string) time.Duration { return streams[to].send(b) }, n.service)
			})
		})
	}
}

// compare does the same work both ways, turn by turn.
func compare(b *testing.B, turns int, work func(to string) time.Duration, service string) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	const warmUp = 5
	var ratios []float64
	for turn := range warmUp + turns {
		took := map[string]time.Duration{}
		ways := []string{direct, service}
		for way := range ways { // direct first, then the Service first
			to := ways[(way+turn)%2]
			took[to] = work(to)
		}
		if turn >= warmUp {
			ratios = append(ratios, took[direct].Seconds()/took[service].Seconds())
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(ratios[len(ratios)/2], "÷direct")
	b.ReportMetric(ratios[len(ratios)*3/4]-ratios[len(ratios)/4], "spread")
}

func median(list []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

func sum(list []time.Duration) (all time.Duration) {
	for _, d := range list {
		all += d
	}
	return all
}
