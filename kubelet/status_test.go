package kubelet

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// show writes a status as kubectl's columns would, for one line of expectation a case.
func show(s corev1.PodStatus) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", s.Phase)
	for _, c := range s.Conditions {
		short := map[corev1.PodConditionType]string{corev1.PodReady: "ready", corev1.PodInitialized: "init", corev1.ContainersReady: "", corev1.PodScheduled: "", corev1.PodReadyToStartContainers: ""}[c.Type]
		if short != "" {
			fmt.Fprintf(&b, " %s=%s", short, c.Status)
			if c.Reason != "" {
				fmt.Fprintf(&b, "(%s)", c.Reason)
			}
		}
	}
	for _, c := range append(s.InitContainerStatuses, s.ContainerStatuses...) {
		fmt.Fprintf(&b, " %s:", c.Name)
		switch {
		case c.State.Running != nil:
			b.WriteString("running")
		case c.State.Waiting != nil:
			b.WriteString(c.State.Waiting.Reason)
		case c.State.Terminated != nil:
			fmt.Fprintf(&b, "%s/%d", c.State.Terminated.Reason, c.State.Terminated.ExitCode)
		}
	}
	return b.String()
}

func TestPodStatus(t *testing.T) {
	id := runtime.Record{ID: "a", Started: time.Unix(1, 0)}
	running := &container{record: id, running: true, started: true, ready: true}
	unready := &container{record: id, running: true, started: true}
	ended := func(code int) *container { return &container{record: id, exit: &shim.Exit{Code: code}} }
	crashing := &container{record: id, exit: &shim.Exit{Code: 1}, waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	always := corev1.ContainerRestartPolicyAlways
	for _, test := range []struct {
		name       string
		policy     corev1.RestartPolicy
		init       []corev1.Container
		containers map[string]*container
		want       string
	}{
		{"new", corev1.RestartPolicyAlways, nil, nil, "Pending init=True ready=False(ContainersNotReady) a:ContainerCreating b:ContainerCreating"},
		{"all run", corev1.RestartPolicyAlways, nil, map[string]*container{"a": running, "b": running}, "Running init=True ready=True a:running b:running"},
		{"one unready", corev1.RestartPolicyAlways, nil, map[string]*container{"a": running, "b": unready}, "Running init=True ready=False(ContainersNotReady) a:running b:running"},
		{"one crashes", corev1.RestartPolicyAlways, nil, map[string]*container{"a": running, "b": crashing}, "Running init=True ready=False(ContainersNotReady) a:running b:CrashLoopBackOff"},
		{"both crash", corev1.RestartPolicyAlways, nil, map[string]*container{"a": crashing, "b": crashing}, "Running init=True ready=False(ContainersNotReady) a:CrashLoopBackOff b:CrashLoopBackOff"},
		{"done", corev1.RestartPolicyNever, nil, map[string]*container{"a": ended(0), "b": ended(0)}, "Succeeded init=True(PodCompleted) ready=False(PodCompleted) a:Completed/0 b:Completed/0"},
		{"half done", corev1.RestartPolicyNever, nil, map[string]*container{"a": ended(0), "b": running}, "Running init=True ready=False(ContainersNotReady) a:Completed/0 b:running"},
		{"failed", corev1.RestartPolicyNever, nil, map[string]*container{"a": ended(0), "b": ended(2)}, "Failed init=True ready=False(PodFailed) a:Completed/0 b:Error/2"},
		{"retried", corev1.RestartPolicyOnFailure, nil, map[string]*container{"a": ended(0), "b": ended(2)}, "Running init=True ready=False(ContainersNotReady) a:Completed/0 b:Error/2"},
		{"initializing", corev1.RestartPolicyAlways, []corev1.Container{{Name: "i"}}, map[string]*container{"i": running}, "Pending init=False(ContainersNotInitialized) ready=False(ContainersNotReady) i:running a:PodInitializing b:PodInitializing"},
		{"initialized", corev1.RestartPolicyAlways, []corev1.Container{{Name: "i"}}, map[string]*container{"i": ended(0), "a": running, "b": running}, "Running init=True ready=True i:Completed/0 a:running b:running"},
		{"initialization failed", corev1.RestartPolicyNever, []corev1.Container{{Name: "i"}}, map[string]*container{"i": ended(3)}, "Failed init=False(ContainersNotInitialized) ready=False(PodFailed) i:Error/3 a:PodInitializing b:PodInitializing"},
		{"sidecar", corev1.RestartPolicyAlways, []corev1.Container{{Name: "s", RestartPolicy: &always}}, map[string]*container{"s": running, "a": running, "b": running}, "Running init=True ready=True s:running a:running b:running"},
		{"out of memory", corev1.RestartPolicyNever, nil, map[string]*container{"a": ended(0), "b": {record: id, exit: &shim.Exit{Code: 137, OOMKilled: true}}}, "Failed init=True ready=False(PodFailed) a:Completed/0 b:OOMKilled/137"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: test.policy, InitContainers: test.init, Containers: []corev1.Container{{Name: "a"}, {Name: "b"}}}}
			got := show(podStatus(facts{pod: pod, sandbox: &sandboxRecord{}, containers: test.containers}))
			if got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestConditionsKeepTheirTimes(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}}
	f := facts{pod: pod, now: metav1.Unix(100, 0)}
	pod.Status = podStatus(f)
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: "example.com/mine", Status: corev1.ConditionTrue})
	f.now = metav1.Unix(200, 0)
	f.sandbox = &sandboxRecord{IPs: []string{"10.244.1.2"}}
	for _, c := range podStatus(f).Conditions {
		want := int64(100)
		switch c.Type {
		case corev1.PodReadyToStartContainers:
			want = 200 // it has just become true
		case "example.com/mine":
			want = metav1.Time{}.Unix()
		}
		if got := c.LastTransitionTime.Unix(); got != want {
			t.Errorf("%s changed at %d, want %d", c.Type, got, want)
		}
	}
}

func TestBackoff(t *testing.T) {
	var b backoff
	now := time.Unix(1000, 0)
	if got := b.remaining(now); got != 0 {
		t.Errorf("first start has to wait %s", got)
	}
	var waits []time.Duration
	for range 8 {
		b.since = now
		b = b.longer()
		waits = append(waits, b.remaining(now))
	}
	if got, want := fmt.Sprint(waits), "[10s 20s 40s 1m20s 2m40s 5m0s 5m0s 5m0s]"; got != want {
		t.Errorf("waits = %s, want %s", got, want)
	}
	if b = b.failed(now.Add(time.Hour)); b.delay != backoffFirst {
		t.Errorf("after an hour without failure the wait is %s", b.delay)
	}
}

func TestQOSClass(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		if cpu != "" {
			l[corev1.ResourceCPU] = mustParse(cpu)
		}
		if memory != "" {
			l[corev1.ResourceMemory] = mustParse(memory)
		}
		return l
	}
	for want, r := range map[corev1.PodQOSClass]corev1.ResourceRequirements{
		corev1.PodQOSBestEffort: {},
		corev1.PodQOSBurstable:  {Requests: list("100m", "")},
		corev1.PodQOSGuaranteed: {Requests: list("1", "1Gi"), Limits: list("1", "1Gi")},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: r}}}}
		if got := qosClass(pod); got != want {
			t.Errorf("qosClass(%v) = %s, want %s", r, got, want)
		}
	}
}
