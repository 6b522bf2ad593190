package test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/kube"
)

// asking is what the test binary is to do on a node (see TestMain): "serve ADDRESS"
// greets with its address, "watch ADDRESS" asks for that greeting again and again
// and prints each that is another than the one before, with the time.
const asking = "PODARIUM_TEST_ASK"

func ask(order string) error {
	what, address, _ := strings.Cut(order, " ")
	if what == "watch" {
		return watchGreeting(address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintln(conn, address) // who asks may have gone
		conn.Close()
	}
}

func watchGreeting(address string) error {
	for before := ""; ; time.Sleep(2 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			continue // not known here yet
		}
		greeting, _ := bufio.NewReader(conn).ReadString('\n')
		if err := conn.(*net.TCPConn).SetLinger(0); err != nil { // no TIME_WAIT
			return err
		}
		conn.Close()
		if now := strings.TrimSpace(greeting); now != "" && now != before {
			fmt.Println(now, time.Now().UnixNano())
			before = now
		}
	}
}

// BenchmarkProxy: how long a change of an endpoint takes, from the request until
// connections on all three nodes go by it, and what memory a proxy
// has, in clusters of 100 and 5000 Services with 2 endpoints each.
func BenchmarkProxy(b *testing.B) {
	for _, mode := range []string{"iptables", "nftables"} {
		b.Run(mode, func(b *testing.B) {
			bin, home := podarium(b), b.TempDir()
			run(b, home, bin, "down", "--name", benchLab)
			run(b, home, bin, "up", "--name", benchLab, "--proxy-mode", mode)
			defer run(b, home, bin, "down", "--name", benchLab)
			client, err := kube.Client("/var/lib/podarium/"+benchLab+"/admin.conf", "bench")
			if err != nil {
				b.Fatal(err)
			}
			probe := newProbe(b, bin, client)
			made := 0
			for _, services := range []int{100, 5000} {
				makeServices(b, client, made, services)
				made = services
				b.Run(strconv.Itoa(services), func(b *testing.B) {
					b.ReportMetric(0, "ns/op")
					var took []float64
					for range 5 { // the Services made just now are in force with the first
						probe.change(b)
					}
					for range max(b.N, 200) {
						took = append(took, probe.change(b))
					}
					b.ReportMetric(percentile(took, 50), "p50-ms")
					b.ReportMetric(percentile(took, 99), "p99-ms")
					reportMemory(b, run(b, home, bin, "node", "--name", benchLab, "exec", "node-2", "--", "sh", "-c", `cat /proc/$(pgrep -x -f "kube-proxy .*")/smaps_rollup`))
				})
			}
		})
	}
}

// reportMemory reports what /proc/PID/smaps_rollup says: all resident memory, of
// which the program's text, shared with the other components, is a part; the
// proportional share; and what is the process's own.
func reportMemory(b *testing.B, rollup string) {
	b.Helper()
	for field, name := range map[string]string{"Rss": "rss-MiB", "Pss": "pss-MiB", "Anonymous": "anonymous-MiB"} {
		m := regexp.MustCompile(`(?m)^` + field + `: +(\d+) kB`).FindStringSubmatch(rollup)
		if m == nil {
			b.Fatalf("no %s in %s", field, rollup)
		}
		kilobytes, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(kilobytes/1024, name)
	}
}

// makeServices makes those from first up to n, 16 at a time.
func makeServices(b *testing.B, client kubernetes.Interface, first, n int) {
	b.Helper()
	numbers := make(chan int)
	var workers sync.WaitGroup
	for range 16 {
		workers.Go(func() {
			for i := range numbers {
				name := fmt.Sprintf("many-%d", i)
				makeService(b, client, name, 8080, fmt.Sprintf("10.244.%d.%d", 100+i/250, i%250+1), fmt.Sprintf("10.244.%d.%d", 150+i/250, i%250+1))
			}
		})
	}
	for i := first; i < n; i++ {
		numbers <- i
	}
	close(numbers)
	workers.Wait()
}

// makeService makes a Service without a selector, and its endpoints.
func makeService(b *testing.B, client kubernetes.Interface, name string, port int32, endpoints ...string) (address string) {
	b.Helper()
	service, err := client.CoreV1().Services("default").Create(b.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		b.Error(err)
		return ""
	}
	none := ""
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &none, Port: &port}},
	}
	for _, ip := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	if _, err := client.DiscoveryV1().EndpointSlices("default").Create(b.Context(), slice, metav1.CreateOptions{}); err != nil {
		b.Error(err)
	}
	return service.Spec.ClusterIP + ":80"
}

// probe is a Service with one endpoint, which changes between two ports of
// node-1, and somebody on each node who asks it all the time.
type probe struct {
	client kubernetes.Interface
	port   int32
	nodes  []*bufio.Scanner
}

var probePorts = [2]int32{7001, 7002}

func newProbe(b *testing.B, bin string, client kubernetes.Interface) *probe {
	b.Helper()
	for _, port := range probePorts {
		onNode(b, bin, "node-1", fmt.Sprintf("serve 192.168.56.11:%d", port)).Scan()
	}
	p := &probe{client: client, port: probePorts[0]}
	address := makeService(b, client, "probe", p.port, "192.168.56.11")
	for _, node := range []string{"node-1", "node-2", "node-3"} {
		p.nodes = append(p.nodes, onNode(b, bin, node, "watch "+address))
	}
	p.wait(b)
	return p
}

// onNode runs the test binary on a node until the benchmark ends, and returns
// what it prints.
func onNode(b *testing.B, bin, node, order string) *bufio.Scanner {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, bin, "node", "--name", benchLab, "exec", node, "--", "env", asking+"="+order, os.Args[0])
	cmd.Env = append(os.Environ(), "PODARIUM_EGRESS=loopback")
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed
	})
	return bufio.NewScanner(out)
}

// wait returns when all nodes have seen the endpoint that is now, and when the
// last one has.
func (p *probe) wait(b *testing.B) (last time.Time) {
	b.Helper()
	for _, node := range p.nodes {
		if !node.Scan() {
			b.Fatal("who asks on a node has ended")
		}
		greeting, at, _ := strings.Cut(node.Text(), " ")
		nanoseconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil || !strings.HasSuffix(greeting, fmt.Sprint(":", p.port)) {
			b.Fatalf("%q, want port %d: %v", node.Text(), p.port, err)
		}
		if seen := time.Unix(0, nanoseconds); seen.After(last) {
			last = seen
		}
	}
	return last
}

// change changes the endpoint and returns how many milliseconds it took.
func (p *probe) change(b *testing.B) float64 {
	b.Helper()
	slices := p.client.DiscoveryV1().EndpointSlices("default")
	slice, err := slices.Get(b.Context(), "probe", metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	p.port = probePorts[0] + probePorts[1] - p.port
	slice.Ports[0].Port = &p.port
	began := time.Now()
	if _, err := slices.Update(b.Context(), slice, metav1.UpdateOptions{}); err != nil {
		b.Fatal(err)
	}
	return float64(p.wait(b).Sub(began).Microseconds()) / 1000
}
