package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/kube"
)

// BenchmarkDNS starts a DNS server on a cluster of 10 000 Services with three
// endpoints each, every tenth of them headless: how long until it answers, what
// memory it takes, and how long until a change is answered. (What it answers in
// a second is measured in dns/.)
func BenchmarkDNS(b *testing.B) {
	bin, home := podarium(b), b.TempDir()
	run(b, home, bin, "down", "--name", benchLab)
	run(b, home, bin, "up", "--name", benchLab, "--nodes", "1", "--proxy-mode", "none")
	defer run(b, home, bin, "down", "--name", benchLab)
	kubeconfig := "/var/lib/podarium/" + benchLab + "/admin.conf"
	client, err := kube.Client(kubeconfig, "bench")
	if err != nil {
		b.Fatal(err)
	}
	const services = 10_000
	createServices(b, client, services)
	for b.Loop() {
		began := time.Now()
		cmd, address := startDNS(b, bin, kubeconfig)
		awaitAnswer(b, address, serviceName(services-1), dns.RcodeSuccess)
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "first-answer-ms")
		b.ReportMetric(timeChange(b, client, address), "change-ms")
		rss, anonymous := memory(b, cmd.Process.Pid)
		b.ReportMetric(rss, "RSS-MiB")
		b.ReportMetric(anonymous, "own-MiB")
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	b.ReportMetric(0, "ns/op")
}

func serviceName(i int) string { return fmt.Sprintf("svc-%d.default.svc.cluster.local.", i) }

func createServices(b *testing.B, client kubernetes.Interface, n int) {
	b.Helper()
	var workers sync.WaitGroup
	for w := range 16 {
		workers.Go(func() {
			for i := w; i < n; i += 16 {
				if err := createService(b.Context(), client, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

func createService(ctx context.Context, client kubernetes.Interface, i int) error {
	name, ready := fmt.Sprintf("svc-%d", i), true
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}}
	if i%10 == 0 {
		svc.Spec.ClusterIP = corev1.ClusterIPNone
	}
	if _, err := client.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{}); err != nil {
		return err
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for e := range 3 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", 100+e, i>>8, i&0xff)},
			Conditions: discoveryv1.EndpointConditions{Ready: &ready},
		})
	}
	_, err := client.DiscoveryV1().EndpointSlices("default").Create(ctx, slice, metav1.CreateOptions{})
	return err
}

func startDNS(b *testing.B, bin, kubeconfig string) (*exec.Cmd, string) {
	b.Helper()
	free, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	address := free.LocalAddr().String()
	free.Close()
	cmd := exec.Command(bin, "dns", "--kubeconfig", kubeconfig, "--bind-address", address,
		"--health-address", "127.0.0.1:0", "--metrics-address", "127.0.0.1:0", "--resolv-conf", "", "--lameduck", "0s")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	return cmd, address
}

// awaitAnswer asks until the answer has the code.
func awaitAnswer(b *testing.B, address, name string, rcode int) {
	b.Helper()
	client := &dns.Client{Timeout: time.Second}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(name, dns.TypeA), address)
		if err == nil && reply.Rcode == rcode {
			return
		}
		if time.Now().After(end) {
			b.Fatalf("%s is not answered %s: %v %v", name, dns.RcodeToString[rcode], reply, err)
		}
	}
}

// timeChange is the longest of twenty times from a Service's creation, or
// deletion, to its answer.
func timeChange(b *testing.B, client kubernetes.Interface, address string) float64 {
	b.Helper()
	var longest time.Duration
	services := client.CoreV1().Services("default")
	for range 10 {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "changing"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
		if _, err := services.Create(b.Context(), svc, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		awaitAnswer(b, address, "changing.default.svc.cluster.local.", dns.RcodeSuccess)
		longest = max(longest, time.Since(began))
		if err := services.Delete(b.Context(), "changing", metav1.DeleteOptions{}); err != nil {
			b.Fatal(err)
		}
		began = time.Now()
		awaitAnswer(b, address, "changing.default.svc.cluster.local.", dns.RcodeNameError)
		longest = max(longest, time.Since(began))
	}
	return float64(longest.Microseconds()) / 1000
}

var (
	rssLine       = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)
	anonymousLine = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)
)

// memory is what is resident of a process, in MiB, and what of it is its own:
// the rest are pages of the program's file, shared with all who run it.
func memory(b *testing.B, pid int) (rss, own float64) {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, field := range []struct {
		line *regexp.Regexp
		to   *float64
	}{{rssLine, &rss}, {anonymousLine, &own}} {
		kib, err := strconv.ParseFloat(string(field.line.FindSubmatch(status)[1]), 64)
		if err != nil {
			b.Fatal(err)
		}
		*field.to = kib / 1024
	}
	return rss, own
}
