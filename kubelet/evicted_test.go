package kubelet

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/kubelet/eviction"
)

// TestPressureRefuses: which pods a node under pressure takes.
func TestPressureRefuses(t *testing.T) {
	memory, disk := corev1.NodeMemoryPressure, corev1.NodeDiskPressure
	plain := func(*corev1.PodSpec) {}
	burstable := func(s *corev1.PodSpec) {
		s.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Mi")}
	}
	tolerant := func(s *corev1.PodSpec) {
		s.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
	}
	critical := func(s *corev1.PodSpec) { s.Priority = new(int32(systemCritical)) }
	for _, test := range []struct {
		conditions []corev1.NodeConditionType
		change     func(*corev1.PodSpec)
		static     bool
		want       string
	}{
		{nil, plain, false, ""},
		{[]corev1.NodeConditionType{memory}, plain, false, "Pod was rejected: The node had condition: [MemoryPressure]. "},
		{[]corev1.NodeConditionType{memory}, burstable, false, ""},
		{[]corev1.NodeConditionType{memory}, tolerant, false, ""},
		{[]corev1.NodeConditionType{memory}, critical, false, ""},
		{[]corev1.NodeConditionType{memory}, plain, true, ""},
		{[]corev1.NodeConditionType{disk}, burstable, false, "Pod was rejected: The node had condition: [DiskPressure]. "},
		{[]corev1.NodeConditionType{memory, disk}, tolerant, false, "Pod was rejected: The node had condition: [MemoryPressure DiskPressure]. "},
		{[]corev1.NodeConditionType{memory, disk}, critical, false, ""},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
		test.change(&pod.Spec)
		p := pressure{conditions: test.conditions}
		got := ""
		if refused := p.refuses(pod, test.static); refused != nil {
			got = refused.message
			if refused.reason != "Evicted" || !refused.rejected {
				t.Errorf("%v: %+v", test.conditions, refused)
			}
		}
		if got != test.want {
			t.Errorf("%v, static %v: %q, want %q", test.conditions, test.static, got, test.want)
		}
	}
}

// TestEvictedStatus: what an evicted pod tells, and that a kubelet which knows it from the API only tells the same.
func TestEvictedStatus(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
	now := timeNow()
	failed := &podFailure{reason: eviction.Reason, message: "The node was low on resource: memory. ", disruption: true, grace: time.Second}
	first := podStatus(facts{pod: pod, failure: failed, stopped: true, startTime: now, now: now})
	condition := first.Conditions[len(first.Conditions)-1]
	for _, have := range first.Conditions {
		if have.Type == corev1.DisruptionTarget {
			condition = have
		}
	}
	if first.Phase != corev1.PodFailed || first.Reason != "Evicted" || first.Message != failed.message ||
		condition.Status != corev1.ConditionTrue || condition.Reason != "TerminationByKubelet" || condition.Message != failed.message {
		t.Errorf("status is %+v", first)
	}
	first.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "Error"}}

	later := pod.DeepCopy()
	later.Status = first
	again := podStatus(facts{pod: later, failure: toldFailure(later), startTime: now, now: metav1.NewTime(now.Add(time.Hour))})
	if show(again) != show(first) || again.Reason != first.Reason || again.Message != first.Message || len(again.Conditions) != len(first.Conditions) {
		t.Errorf("later it is %+v, was %+v", again, first)
	}

	rejected := pod.DeepCopy()
	rejected.Status = podStatus(facts{pod: pod, failure: rejection("Evicted", "The node had condition: [DiskPressure]. "), startTime: now, now: now})
	again = podStatus(facts{pod: rejected, failure: toldFailure(rejected), startTime: now, now: now})
	if again.Message != rejected.Status.Message || len(again.ContainerStatuses) > 0 {
		t.Errorf("a rejected pod's later is %+v", again)
	}
}

// TestDiskUsage: a file with two names counts once, one with holes only what it takes.
func TestDiskUsage(t *testing.T) {
	dir := t.TempDir()
	empty := diskUsage(dir)
	if err := os.WriteFile(filepath.Join(dir, "a"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "holes"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "holes"), 1<<30); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/", filepath.Join(dir, "everything")); err != nil {
		t.Fatal(err)
	}
	got := diskUsage(dir)
	if grown := got.Bytes - empty.Bytes; grown < 64<<10 || grown > 80<<10 || got.Inodes != empty.Inodes+3 {
		t.Errorf("usage is %+v, was %+v", got, empty)
	}
	if none := diskUsage(filepath.Join(dir, "gone")); none != (eviction.Disk{}) {
		t.Errorf("what is not there takes %+v", none)
	}
}
