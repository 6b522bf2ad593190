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

// TestLastStatus: the last words on a pod that ended, and on one that is deleted, whatever its containers waited
// for; recorded from upstream's kubelet.
func TestLastStatus(t *testing.T) {
	id := runtime.Record{ID: "a", Started: time.Unix(1, 0)}
	ended := func(code int) *container { return &container{record: id, exit: &shim.Exit{Code: code}} }
	crashing := &container{record: id, exit: &shim.Exit{Code: 1}, waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	pulling := &container{waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}
	always := corev1.ContainerRestartPolicyAlways
	sidecar := []corev1.Container{{Name: "s", RestartPolicy: &always}}
	for _, test := range []struct {
		name       string
		deleted    bool
		init       []corev1.Container
		containers map[string]*container
		want       string
	}{
		{"image missing", true, nil, map[string]*container{"a": pulling}, "Failed init=True ready=False(PodFailed) a:ContainerStatusUnknown/137"},
		{"crashing", true, nil, map[string]*container{"a": crashing}, "Failed init=True ready=False(PodFailed) a:Error/1"},
		{"ended well", true, nil, map[string]*container{"a": ended(0)}, "Succeeded init=True(PodCompleted) ready=False(PodCompleted) a:Completed/0"},
		{"initializing", true, []corev1.Container{{Name: "i"}, {Name: "j"}}, map[string]*container{"i": ended(137)}, "Failed init=False(ContainersNotInitialized) ready=False(PodFailed) i:Error/137 j:PodInitializing a:PodInitializing"},
		{"done beside a crashing sidecar", false, sidecar, map[string]*container{"s": crashing, "a": ended(0)}, "Succeeded init=True(PodCompleted) ready=False(PodCompleted) s:ContainerStatusUnknown/137 a:Completed/0"},
		{"done with its sidecar", false, sidecar, map[string]*container{"s": ended(0), "a": ended(0)}, "Succeeded init=True(PodCompleted) ready=False(PodCompleted) s:Completed/0 a:Completed/0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, InitContainers: test.init, Containers: []corev1.Container{{Name: "a"}}}}
			if test.deleted {
				pod.Spec.RestartPolicy, pod.DeletionTimestamp = corev1.RestartPolicyAlways, &metav1.Time{Time: time.Unix(9, 0)}
			}
			status := podStatus(facts{pod: pod, containers: test.containers, stopped: true, ended: test.deleted})
			if got := show(status); got != test.want {
				t.Errorf("\ngot  %s\nwant %s", got, test.want)
			}
			if s := status.InitContainerStatuses; test.name == "done with its sidecar" && s[0].Ready {
				t.Error("a sidecar that has ended is ready")
			}
		})
	}
}

// TestStatusTellsWhatAContainerIs: its user, what it was given, and whether it is ready, by its kind.
func TestStatusTellsWhatAContainerIs(t *testing.T) {
	running := &container{
		record:  runtime.Record{ID: "a", User: &runtime.Identity{UID: 1000, GID: 2000, Groups: []int64{7, 2000}}},
		running: true, started: true, ready: true,
	}
	requests := corev1.ResourceList{corev1.ResourceCPU: mustParse("100m")}
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers:      []corev1.Container{{Name: "i"}},
		Containers:          []corev1.Container{{Name: "a", Resources: corev1.ResourceRequirements{Requests: requests}}, {Name: "b"}},
		EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e"}}},
	}}
	s := podStatus(facts{pod: pod, sandbox: &sandboxRecord{}, containers: map[string]*container{"i": running, "a": running, "e": running}})
	if a := s.ContainerStatuses[0]; a.User == nil || a.User.Linux.UID != 1000 || len(a.User.Linux.SupplementalGroups) != 2 ||
		!a.AllocatedResources.Cpu().Equal(mustParse("100m")) || !a.Resources.Requests.Cpu().Equal(mustParse("100m")) || !a.Ready {
		t.Errorf("running: %+v", a)
	}
	if b := s.ContainerStatuses[1]; b.User != nil || b.Resources != nil {
		t.Errorf("not begun: %+v", b)
	}
	if s.InitContainerStatuses[0].Ready {
		t.Error("an init container is ready before it is done")
	}
	if e := s.EphemeralContainerStatuses[0]; e.Started != nil || e.Ready {
		t.Errorf("an ephemeral container: started %v, ready %v", e.Started, e.Ready)
	}
	if s.Resources == nil || !s.AllocatedResources.Cpu().Equal(mustParse("100m")) {
		t.Errorf("the pod's resources: %v, %v", s.Resources, s.AllocatedResources)
	}
}

// TestAddressesOutliveTheSandbox: also when the API server has not yet answered to the status which told them.
func TestAddressesOutliveTheSandbox(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "a"}}}}
	before := corev1.PodStatus{PodIP: "10.244.1.2", PodIPs: []corev1.PodIP{{IP: "10.244.1.2"}}}
	if s := podStatus(facts{pod: pod, stopped: true, before: before}); s.PodIP != "10.244.1.2" || len(s.PodIPs) != 1 {
		t.Errorf("podIP %q, podIPs %v", s.PodIP, s.PodIPs)
	}
}

func TestWhyNoLog(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{{Name: "i"}}, Containers: []corev1.Container{{Name: "a"}}}}
	waits := func(reason string) map[string]*container {
		return map[string]*container{"a": {waiting: &corev1.ContainerStateWaiting{Reason: reason}}}
	}
	for reason, want := range map[string]string{
		"ContainerCreating": "PodInitializing", "ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image",
		"CreateContainerConfigError": "CreateContainerConfigError",
	} {
		if got := (facts{pod: pod, containers: waits(reason)}).whyNoLog(&pod.Spec.Containers[0]); got != want {
			t.Errorf("%s: %q, want %q", reason, got, want)
		}
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
