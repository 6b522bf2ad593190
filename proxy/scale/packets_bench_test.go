package scale

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy/proxytest"
)

const endpoint = "10.244.1.3:8080"

// clientAndServer are two pods of a node; what comes to the server's endpoint is
// read to its end.
func clientAndServer(b *testing.B) (client *nstest.Host) {
	b.Helper()
	proxytest.Node(b)
	pods := proxytest.Pods(b, 2)
	listener, err := netns.Listen(b.Context(), pods[1].Path(), endpoint)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn) // ends with the client
				conn.Close()
			}()
		}
	}()
	return pods[0]
}

// connect opens n connections from a host, one after the other, and returns how
// long each took. They are reset, so that no TIME_WAIT takes the ports.
func connect(b *testing.B, from *nstest.Host, to string, n int) []time.Duration {
	b.Helper()
	took := make([]time.Duration, 0, n)
	err := netns.Do(from.Path(), func() error {
		dialer := net.Dialer{Timeout: 10 * time.Second, FallbackDelay: -1}
		for range n {
			began := time.Now()
			conn, err := dialer.Dial("tcp", to)
			if err != nil {
				return err
			}
			took = append(took, time.Since(began))
			if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
				return err
			}
			conn.Close()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return took
}

func median(list []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

// BenchmarkFirstPacket: opening a connection through the last of many Services,
// and as a ratio to a direct one.
func BenchmarkFirstPacket(b *testing.B) {
	for _, mode := range modes {
		for _, services := range []int{10, 1000, 10000} {
			b.Run(fmt.Sprintf("%s/%d", mode, services), func(b *testing.B) {
				client := clientAndServer(b)
				cluster, last := proxytest.NewCluster(services, 1), services-1
				cluster.SetEndpoints(last, "10.244.1.3")
				sync(b, newBackend(b, mode), cluster.Model)
				var direct, through []time.Duration
				for range max(b.N, 5) {
					direct = append(direct, connect(b, client, endpoint, 200)...)
					through = append(through, connect(b, client, proxytest.ClusterIP(last)+":80", 200)...)
				}
				b.ReportMetric(float64(median(through).Nanoseconds())/1000, "p50-µs")
				b.ReportMetric(median(through).Seconds()/median(direct).Seconds(), "÷direct")
			})
		}
	}
}

// BenchmarkClusterIP: connections a second and bytes a second through a
// ClusterIP, as ratios to direct ones, of a single client.
func BenchmarkClusterIP(b *testing.B) {
	for _, mode := range modes {
		b.Run(mode, func(b *testing.B) {
			client := clientAndServer(b)
			cluster := proxytest.NewCluster(100, 1)
			cluster.SetEndpoints(0, "10.244.1.3")
			sync(b, newBackend(b, mode), cluster.Model)
			service := proxytest.ClusterIP(0) + ":80"
			var connections, bytes [2]float64 // direct, through the Service
			for range max(b.N, 3) {
				for i, to := range []string{endpoint, service} {
					began := time.Now()
					connect(b, client, to, 2000)
					connections[i] += 2000 / time.Since(began).Seconds()
					bytes[i] += stream(b, client, to, 500*time.Millisecond)
				}
			}
			b.ReportMetric(connections[1]/connections[0], "connections÷direct")
			b.ReportMetric(bytes[1]/bytes[0], "throughput÷direct")
		})
	}
}

// stream sends for a while and returns the bytes a second.
func stream(b *testing.B, from *nstest.Host, to string, during time.Duration) float64 {
	b.Helper()
	conn, err := netns.Dial(b.Context(), from.Path(), "tcp", to)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	buffer, sent, began := make([]byte, 256<<10), 0, time.Now()
	for time.Since(began) < during {
		n, err := conn.Write(buffer)
		if err != nil {
			b.Fatal(err)
		}
		sent += n
	}
	return float64(sent) / time.Since(began).Seconds()
}
