package kubelet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	if len(pod.Spec.Containers[0].Resources.Limits) > 0 {
		t.Error("the pod's specification was changed")
	}
}
