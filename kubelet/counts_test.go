package kubelet

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func nothingRuns() (int, map[string]int) { return 0, nil }

// counted is how many series a metric has, and what they count together.
func counted(t *testing.T, r *prometheus.Registry, name string) (series, count int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			series++
			count += int(m.GetCounter().GetValue()) + int(m.GetHistogram().GetSampleCount())
		}
	}
	return series, count
}

// The counts of a pod's probes go with the pod; those of others stay.
func TestForgetProbes(t *testing.T) {
	c := newCounts("node-1", nothingRuns)
	for _, uid := range []types.UID{"u1", "u2"} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: uid}}
		p := prober{pod: pod, container: &corev1.Container{Name: "c"}}
		c.probed(p, "Readiness", true)
		c.probed(p, "Readiness", false)
		c.probed(p, "Readiness", false)
	}
	c.forget("u1")
	if series, count := counted(t, c.probing, "prober_probe_total"); series != 2 || count != 3 {
		t.Errorf("%d results and %d probes are left, want 2 and 3", series, count)
	}
}

// A start is counted once: not of a pod which ran when this kubelet came.
func TestPodRuns(t *testing.T) {
	for _, test := range []struct {
		before, after corev1.PodPhase
		want          int
	}{
		{"", corev1.PodRunning, 1},
		{corev1.PodPending, corev1.PodRunning, 1},
		{corev1.PodRunning, corev1.PodRunning, 0},
		{corev1.PodPending, corev1.PodSucceeded, 0},
	} {
		c := newCounts("node-1", nothingRuns)
		c.podRuns(test.before, test.after, time.Now().Add(-time.Second))
		if _, count := counted(t, c.own, "kubelet_pod_start_duration_seconds"); count != test.want {
			t.Errorf("%s to %s: counted %d times, want %d", test.before, test.after, count, test.want)
		}
	}
}
