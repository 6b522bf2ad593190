package kubelet

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

func TestVerifyNonRoot(t *testing.T) {
	yes := true
	for _, test := range []struct {
		image string
		user  *int64
		want  string
	}{
		{"", nil, `container has runAsNonRoot and image will run as root (pod: "web_shop(u1)", container: c)`},
		{"0:5", nil, `container has runAsNonRoot and image will run as root (pod: "web_shop(u1)", container: c)`},
		{"nobody", nil, `container has runAsNonRoot and image has non-numeric user (nobody), cannot verify user is non-root (pod: "web_shop(u1)", container: c)`},
		{"1000", new(int64(0)), `container's runAsUser breaks non-root policy (pod: "web_shop(u1)", container: c)`},
		{"1000:2000", nil, ""},
		{"nobody", new(int64(5)), ""},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1"},
			Spec:       corev1.PodSpec{SecurityContext: &corev1.PodSecurityContext{RunAsNonRoot: &yes}},
		}
		c := &corev1.Container{Name: "c", SecurityContext: &corev1.SecurityContext{RunAsUser: test.user}}
		got := ""
		if err := verifyNonRoot(pod, c, test.image); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("image of %q, runAsUser %v: %q, want %q", test.image, test.user, got, test.want)
		}
	}
}

// TestPodLevelResources: the figures are those of the control groups which upstream's kubelet made.
func TestPodLevelResources(t *testing.T) {
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		Resources: &corev1.ResourceRequirements{
			Limits:   corev1.ResourceList{corev1.ResourceCPU: mustParse("200m"), corev1.ResourceMemory: mustParse("64Mi")},
			Requests: corev1.ResourceList{corev1.ResourceCPU: mustParse("100m"), corev1.ResourceMemory: mustParse("32Mi")},
		},
		Containers: []corev1.Container{{Name: "c"}},
	}}
	c := withPodLimits(pod, &pod.Spec.Containers[0])
	if shares, quota, memory := cpuShares(c), cpuQuota(c), memoryLimit(c); shares != 204 || quota != 20000 || memory != 67108864 {
		t.Errorf("the container gets %d shares, %d µs, %d bytes; want 204, 20000, 67108864", shares, quota, memory)
	}
	if l := podLimits(pod); l.CPUShares != 102 || l.CPUQuota != 20000 || l.MemoryLimit != 67108864 {
		t.Errorf("the pod gets %+v", l)
	}
	const capacity = 24684084 << 10
	pod.Spec.Resources.Requests[corev1.ResourceMemory] = mustParse("4Gi")
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "d", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: mustParse("1Gi")}}})
	for i, want := range []int{937, 894} {
		if got := oomScoreAdj(pod, &pod.Spec.Containers[i], capacity); got != want {
			t.Errorf("oom_score_adj of container %d is %d, want %d", i, got, want)
		}
	}
	if len(pod.Spec.Containers[0].Resources.Limits) > 0 {
		t.Error("the pod's specification was changed")
	}
}

// TestSidecarOutlivesWhatItServes: when memory runs out, a sidecar that asks for nothing goes no sooner than the
// container with the least request.
func TestSidecarOutlivesWhatItServes(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	asks := func(amount string) corev1.Container {
		return corev1.Container{Name: amount, Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: mustParse(amount)}}}
	}
	pod := &corev1.Pod{Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "s", RestartPolicy: &always}, {Name: "i"}},
		Containers:     []corev1.Container{asks("1Gi"), asks("4Gi")},
	}}
	const capacity = 24684084 << 10
	got := map[string]int{}
	for _, c := range allContainers(pod) {
		got[c.Name] = oomScoreAdj(pod, c, capacity)
	}
	if want := map[string]int{"s": 958, "i": 999, "1Gi": 958, "4Gi": 831}; !maps.Equal(got, want) {
		t.Errorf("oom_score_adj: %v, want %v", got, want)
	}
}

func TestRestartRules(t *testing.T) {
	never, always := corev1.ContainerRestartPolicyNever, corev1.ContainerRestartPolicyAlways
	rule := func(operator corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: operator, Values: codes}}}
	}
	for _, test := range []struct {
		name   string
		policy *corev1.ContainerRestartPolicy
		rules  []corev1.ContainerRestartRule
		code   int
		want   bool
	}{
		{"the pod's policy", nil, nil, 1, true},
		{"the container's own", &never, nil, 1, false},
		{"always, though well", &always, nil, 0, true},
		{"a rule in spite of it", &never, rule(corev1.ContainerRestartRuleOnExitCodesOpIn, 42), 42, true},
		{"a rule about others", &never, rule(corev1.ContainerRestartRuleOnExitCodesOpIn, 42), 41, false},
		{"not in", &never, rule(corev1.ContainerRestartRuleOnExitCodesOpNotIn, 42), 41, true},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyOnFailure, Containers: []corev1.Container{{
			Name: "c", RestartPolicy: test.policy, RestartPolicyRules: test.rules,
		}}}}
		if got := restarts(pod, &pod.Spec.Containers[0], test.code); got != test.want {
			t.Errorf("%s: restarts after %d: %v", test.name, test.code, got)
		}
		have := map[string]*container{"c": {record: runtime.Record{ID: "a"}, exit: &shim.Exit{Code: test.code}}}
		if running := (facts{pod: pod, containers: have}).phase() == corev1.PodRunning; running != test.want {
			t.Errorf("%s: the pod goes on: %v", test.name, running)
		}
	}
}
