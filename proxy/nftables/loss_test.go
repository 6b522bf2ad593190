package nftables

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/proxytest"
)

// lossCluster is a UDP Service, as some change of it leaves it.
func lossCluster(spec string, endpoints ...string) string {
	var list strings.Builder
	for _, ip := range endpoints {
		fmt.Fprintf(&list, "- {addresses: [%s], nodeName: node-1, conditions: {ready: true}}\n", ip)
	}
	return `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  clusterIP: 10.96.0.20
  clusterIPs: [10.96.0.20]
  ports: [{protocol: UDP, port: 53}]
  ` + spec + `
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: default, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: "", protocol: UDP, port: 8080}]
endpoints:
` + list.String()
}

// TestNoPacketIsLost: whatever changes, each packet goes to an endpoint of before
// or of after. The first chain a packet meets is made so long here that packets
// are in it when the kernel commits: with rules replaced in one transaction, every
// fourth change loses one.
func TestNoPacketIsLost(t *testing.T) {
	const a, b, c = "10.244.1.3", "10.244.1.4", "10.244.1.5"
	for _, s := range []struct {
		name          string
		before, after string
		restart       bool
	}{
		{"an endpoint for another", lossCluster("", a, b), lossCluster("", a, c), false},
		{"one more endpoint", lossCluster("", a), lossCluster("", a, b), false},
		{"affinity", lossCluster("", a, b), lossCluster("sessionAffinity: ClientIP", a, b), false},
		{"traffic policy", lossCluster("", a, b), lossCluster("internalTrafficPolicy: Local", a, b), false},
		{"from few Services to many", lossCluster("", a, b), lossCluster("", a, b) + fillers(manyPorts), false},
		{"an endpoint for another, among many Services", lossCluster("", a, b) + fillers(manyPorts), lossCluster("", a, c) + fillers(manyPorts), false},
		{"a restart", lossCluster("", a, b), lossCluster("", a, b), true},
		{"a change during a restart", lossCluster("", a, b), lossCluster("internalTrafficPolicy: Local", a, c), true},
	} {
		t.Run(s.name, func(t *testing.T) {
			proxytest.Node(t)
			pod := proxytest.Pods(t, 1)[0]
			before, after := proxytest.Snapshot(t, s.before), proxytest.Snapshot(t, s.after)
			backend := lossBackend()
			sync := func(i int) {
				snapshot := before
				if i%2 == 1 {
					snapshot = after
				}
				if s.restart {
					backend = lossBackend()
				}
				if i%3 == 0 {
					proxytest.Sync(t, backend, snapshot)
				} else if err := backend.Sync(t.Context(), snapshot); err != nil {
					t.Fatal(err)
				}
			}
			sync(0)
			count(t)
			sent := flood(t, pod, "10.96.0.20", 53)
			for i := range 20 {
				<-sent
				slow(t)
				sync(i + 1)
				<-sent
			}
			translated, lost := counters(t)
			if lost > 0 || translated[0] < 500 {
				t.Errorf("%d packets went to the endpoints, %d went nowhere", translated, lost)
			}
		})
	}
}

// fillers are Services without endpoints.
func fillers(n int) string {
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "---\napiVersion: v1\nkind: Service\nmetadata: {name: filler-%d, namespace: default}\n", i)
		fmt.Fprintf(&all, "spec: {clusterIP: 10.97.%d.%d, ports: [{protocol: TCP, port: 80}]}\n", i/250, i%250+1)
	}
	return all.String()
}

// TestManyServices: with many, each endpoint has a rule, and still its share: a
// third of 9000, give or take 2 % of all; chance alone would miss by 0.5 %.
func TestManyServices(t *testing.T) {
	proxytest.Node(t)
	pod := proxytest.Pods(t, 1)[0]
	objects := lossCluster("", "10.244.1.3", "10.244.1.4", "10.244.1.5") + fillers(manyPorts)
	proxytest.Sync(t, lossBackend(), proxytest.Snapshot(t, objects))
	const want = `table ip kube-proxy {
	chain service-HE7KU7SE-default/web/udp/ {
		meta l4proto udp numgen random mod 3 0 dnat to 10.244.1.3:8080
		meta l4proto udp numgen random mod 2 0 dnat to 10.244.1.4:8080
		meta l4proto udp dnat to 10.244.1.5:8080
	}
}
`
	if diff := cmp.Diff(want, nstest.Run(t, "nft", "list", "chain", "ip", "kube-proxy", "service-HE7KU7SE-default/web/udp/")); diff != "" {
		t.Errorf("rules (-want +ours):\n%s", diff)
	}
	count(t)
	to := &unix.SockaddrInet4{Addr: [4]byte{10, 96, 0, 20}, Port: 53}
	const packets = 9000
	err := netns.Do(pod.Path(), func() error {
		for range packets {
			if err := sendOne(to); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	translated, lost := counters(t)
	for i, n := range translated {
		if share := float64(n) / packets; share < 1.0/3-0.02 || share > 1.0/3+0.02 {
			t.Errorf("endpoint %d got %d of %d packets, %d went nowhere", i, n, packets, lost)
		}
	}
}

func lossBackend() *Backend {
	return New(Config{NodeIP: netip.MustParseAddr("192.168.56.11"), LocalPods: proxy.LocalPods{Range: netip.MustParsePrefix("10.244.0.0/16")}, MasqueradeBit: 14})
}

// slow lets every packet's way begin with some thousand rules; a full sync
// removes them.
func slow(t *testing.T) {
	t.Helper()
	if there, err := hasChain(ipv4, "slow"); err != nil || there {
		return
	}
	var text strings.Builder
	text.WriteString("add chain ip kube-proxy slow\n")
	for range 2000 {
		text.WriteString("add rule ip kube-proxy slow ip daddr 203.0.113.1 accept\n")
	}
	text.WriteString("insert rule ip kube-proxy nat-prerouting jump slow\n")
	if err := run(t.Context(), text.String()); err != nil {
		t.Fatal(err)
	}
}

// count counts what comes out behind the translation.
func count(t *testing.T) {
	t.Helper()
	err := run(t.Context(), `table ip count {
		chain prerouting {
			type filter hook prerouting priority 0
			ip daddr 10.96.0.20 counter comment "lost"
			ip daddr 10.244.1.3 udp dport 8080 counter
			ip daddr 10.244.1.4 udp dport 8080 counter
			ip daddr 10.244.1.5 udp dport 8080 counter
		}
	}`)
	if err != nil {
		t.Fatal(err)
	}
	// So that connections, each of one packet, do not fill the table.
	nstest.Run(t, "sh", "-c", "echo 1 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout")
}

// counters are how many came to each of three endpoints, and how many to none.
func counters(t *testing.T) (translated [3]int, lost int) {
	t.Helper()
	found := regexp.MustCompile(`packets (\d+)`).FindAllStringSubmatch(nstest.Run(t, "nft", "list", "chain", "ip", "count", "prerouting"), -1)
	if len(found) != 4 {
		t.Fatalf("counters: %v", found)
	}
	for i := range translated {
		translated[i], _ = strconv.Atoi(found[i+1][1])
	}
	lost, _ = strconv.Atoi(found[0][1])
	return translated, lost
}

// flood sends datagrams until the test ends, each a new connection; the channel
// tells when another hundred have been sent.
func flood(t *testing.T, from *nstest.Host, ip string, port int) <-chan struct{} {
	t.Helper()
	to := &unix.SockaddrInet4{Addr: netip.MustParseAddr(ip).As4(), Port: port}
	sent, done, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	t.Cleanup(func() {
		close(done)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	go func() {
		ended <- netns.Do(from.Path(), func() error {
			for {
				for range 100 {
					if err := sendOne(to); err != nil {
						return err
					}
				}
				select {
				case <-done:
					return nil
				case sent <- struct{}{}:
				default:
				}
			}
		})
	}()
	return sent
}

func sendOne(to unix.Sockaddr) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	return unix.Sendto(socket, []byte("?"), 0, to)
}
