package test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/kube"
)

// benchLab is started and ended by the benchmarks.
const benchLab = "test-bench"

// BenchmarkUp measures `podarium up`, from nothing to three Ready nodes and
// kubernetes.default answered from a pod, by its own timeline; and the memory
// of the idle lab, as `podarium status` adds it up (PSS).
func BenchmarkUp(b *testing.B) {
	bin, home := podarium(b), b.TempDir()
	var starts []float64
	var memory float64
	for b.Loop() {
		run(b, home, bin, "down", "--name", benchLab)
		out := run(b, home, bin, "up", "--name", benchLab)
		lines := strings.Split(strings.TrimSpace(out), "\n")
		ms, err := strconv.ParseFloat(strings.Fields(lines[len(lines)-1])[0], 64)
		if err != nil {
			b.Fatalf("read the timeline's last line %q: %v", lines[len(lines)-1], err)
		}
		starts = append(starts, ms)
		memory = idleMemory(b, home, bin)
	}
	run(b, home, bin, "down", "--name", benchLab)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(percentile(starts, 50), "up-p50-ms")
	b.ReportMetric(slices.Max(starts), "up-max-ms")
	b.ReportMetric(memory, "idle-MiB")
}

var memoryLine = regexp.MustCompile(`memory (\d+) MiB`)

func idleMemory(b *testing.B, home, bin string) float64 {
	b.Helper()
	m := memoryLine.FindStringSubmatch(run(b, home, bin, "status", "--name", benchLab))
	if m == nil {
		b.Fatal("podarium status tells no memory")
	}
	mib, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		b.Fatal(err)
	}
	return mib
}

// BenchmarkPodReady measures the time from the answer to a pod's create until
// the watch shows it Ready: one after the other, and 30 at once over three
// nodes. The nodes have cleaned up after one round when the next begins.
func BenchmarkPodReady(b *testing.B) {
	bin, home := podarium(b), b.TempDir()
	run(b, home, bin, "down", "--name", benchLab)
	run(b, home, bin, "up", "--name", benchLab)
	defer run(b, home, bin, "down", "--name", benchLab)
	client, err := kube.Client("/var/lib/podarium/"+benchLab+"/admin.conf", "bench")
	if err != nil {
		b.Fatal(err)
	}
	for _, at := range []struct {
		name         string
		pods, atOnce int
	}{{"one-by-one", 10, 1}, {"30-at-once", 30, 30}} {
		b.Run(at.name, func(b *testing.B) {
			var all []float64
			for b.Loop() {
				for range at.pods / at.atOnce {
					all = append(all, podsReady(b, client, at.atOnce)...)
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(percentile(all, 50), "p50-ms")
			b.ReportMetric(percentile(all, 99), "p99-ms")
		})
	}
}

// podsReady creates n pods, waits until all are Ready, and deletes them.
func podsReady(b *testing.B, client kubernetes.Interface, n int) []float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	watcher, err := pods.Watch(ctx, metav1.ListOptions{LabelSelector: "bench=pod"})
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Stop()
	before := podDirs(b)
	created := map[string]time.Time{}
	for range n {
		pod, err := pods.Create(ctx, benchPod(), metav1.CreateOptions{})
		if err != nil {
			b.Fatal(err)
		}
		created[pod.Name] = time.Now()
	}
	took := awaitReady(b, watcher, created)
	err = pods.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "bench=pod"})
	if err != nil {
		b.Fatal(err)
	}
	awaitGone(b, watcher, n)
	awaitClean(ctx, b, before)
	return took
}

// podDirs are the directories of the pods which the kubelets of the lab have.
func podDirs(b *testing.B) []string {
	b.Helper()
	dirs, err := filepath.Glob("/var/lib/podarium/" + benchLab + "/nodes/*/var/lib/kubelet/pods/*")
	if err != nil {
		b.Fatal(err)
	}
	return dirs
}

// awaitClean waits until the nodes have no pods but those of before: a pod
// deleted without grace is gone from the API when its end has just begun.
func awaitClean(ctx context.Context, b *testing.B, before []string) {
	b.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !slices.Equal(podDirs(b), before) {
		select {
		case <-ctx.Done():
			b.Fatalf("nodes still have pods %v", podDirs(b))
		case <-look.C:
		}
	}
}

func awaitReady(b *testing.B, watcher watch.Interface, created map[string]time.Time) []float64 {
	b.Helper()
	var took []float64
	for event := range watcher.ResultChan() {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok || !isReady(pod) || created[pod.Name].IsZero() {
			continue
		}
		took = append(took, float64(time.Since(created[pod.Name]).Microseconds())/1000)
		delete(created, pod.Name)
		if len(created) == 0 {
			return took
		}
	}
	b.Fatalf("%d pods did not become Ready", len(created))
	return nil
}

func awaitGone(b *testing.B, watcher watch.Interface, n int) {
	b.Helper()
	for event := range watcher.ResultChan() {
		if event.Type == watch.Deleted {
			if n--; n == 0 {
				return
			}
		}
	}
	b.Fatalf("%d pods were not deleted", n)
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func benchPod() *corev1.Pod {
	zero := int64(0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-", Labels: map[string]string{"bench": "pod"}},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: &zero,
			Containers:                    []corev1.Container{{Name: "shell", Image: "busybox:1", Command: []string{"sleep", "3600"}}},
		},
	}
}

// BenchmarkRequest compares a request to a pod's address with one to the
// ClusterIP in front of it, from a pod on the same node and from another node,
// 1000 connections each: the ratio is what the Service costs.
func BenchmarkRequest(b *testing.B) {
	bin, home := podarium(b), b.TempDir()
	run(b, home, bin, "down", "--name", benchLab)
	run(b, home, bin, "up", "--name", benchLab)
	defer run(b, home, bin, "down", "--name", benchLab)
	kubectl := func(args ...string) string { return kubectlOutput(b, bin, args...) }
	kubectl("apply", "-f", "../examples/simpleservice.yaml")
	kubectl("wait", "--for=condition=Ready", "pod", "-l", "app=sise", "--timeout=30s")
	pod := strings.Fields(kubectl("get", "pods", "-l", "app=sise", "-o", "jsonpath={.items[0].status.podIP} {.items[0].spec.nodeName}"))
	service := kubectl("get", "svc", "simpleservice", "-o", "jsonpath={.spec.clusterIP}")
	const connections = 1000
	for b.Loop() {
		direct := timeRequests(b, bin, pod[1], pod[0]+":9876", connections)
		through := timeRequests(b, bin, pod[1], service+":80", connections)
		b.ReportMetric(direct.Seconds()*1e6/connections, "direct-µs")
		b.ReportMetric(through.Seconds()/direct.Seconds(), "clusterip÷direct")
	}
	b.ReportMetric(0, "ns/op")
}

// timeRequests lets curl on a node fetch a URL n times, each over a connection
// of its own.
func timeRequests(b *testing.B, bin, node, address string, n int) time.Duration {
	b.Helper()
	config := filepath.Join(b.TempDir(), "urls")
	line := fmt.Sprintf("url = \"http://%s/hostname\"\noutput = /dev/null\n", address)
	if err := os.WriteFile(config, []byte(strings.Repeat(line, n)), 0o644); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	cmd := exec.Command(bin, "node", "--name", benchLab, "exec", node, "--", "curl", "-sf", "--no-keepalive", "-H", "Connection: close", "-K", config)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("requests to %s: %v: %s", address, err, out)
	}
	return time.Since(began)
}

func kubectlOutput(b *testing.B, bin string, args ...string) string {
	b.Helper()
	cmd := exec.Command(bin, append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG=/var/lib/podarium/"+benchLab+"/admin.conf")
	out, err := cmd.Output()
	if err != nil {
		b.Fatalf("kubectl %v: %v", args, err)
	}
	return string(out)
}

func percentile(values []float64, p int) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}
