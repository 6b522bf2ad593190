package kubelet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAdmission: what a node of 2 CPUs, 1 GiB and 3 places says to a pod, beside one which takes 1500m and
// port 80 of 192.0.2.1.
func TestAdmission(t *testing.T) {
	pod := func(change func(*corev1.PodSpec)) *corev1.Pod {
		p := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}}}
		change(&p.Spec)
		return p
	}
	request := func(name corev1.ResourceName, amount string) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			s.Containers[0].Resources.Requests = corev1.ResourceList{name: resource.MustParse(amount)}
		}
	}
	port := func(ip string, protocol corev1.Protocol) func(*corev1.PodSpec) {
		return func(s *corev1.PodSpec) {
			s.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 80, HostIP: ip, Protocol: protocol}}
		}
	}
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: map[string]string{"disk": "ssd"}},
		Spec:       corev1.NodeSpec{Taints: []corev1.Taint{{Key: "leaving", Effect: corev1.TaintEffectNoExecute}, {Key: "full", Effect: corev1.TaintEffectNoSchedule}}},
	}
	tolerate := func(s *corev1.PodSpec) {
		s.Tolerations = []corev1.Toleration{{Key: "leaving", Operator: corev1.TolerationOpExists}}
	}
	other := pod(func(s *corev1.PodSpec) {
		request(corev1.ResourceCPU, "1500m")(s)
		port("192.0.2.1", corev1.ProtocolTCP)(s)
	})
	for _, test := range []struct {
		name         string
		change       func(*corev1.PodSpec)
		others       int
		static       bool
		reason, says string
	}{
		{"fits", request(corev1.ResourceCPU, "500m"), 1, true, "", ""},
		{"cpu", request(corev1.ResourceCPU, "501m"), 1, true, "OutOfcpu", "Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"},
		{"memory", request(corev1.ResourceMemory, "2Gi"), 1, true, "OutOfmemory", "Node didn't have enough resource: memory, requested: 2147483648, used: 0, capacity: 1073741824"},
		{"places", func(*corev1.PodSpec) {}, 3, true, "OutOfpods", "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3"},
		{"selector", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "tape"} }, 1, true, "NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"},
		{"selector matches", func(s *corev1.PodSpec) { s.NodeSelector = map[string]string{"disk": "ssd"} }, 1, true, "", ""},
		{"port", port("", corev1.ProtocolTCP), 1, true, "NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"},
		{"port of another protocol", port("", corev1.ProtocolUDP), 1, true, "", ""},
		{"port of another address", port("192.0.2.2", corev1.ProtocolTCP), 1, true, "", ""},
		{"system", func(s *corev1.PodSpec) { s.OS = &corev1.PodOS{Name: corev1.Windows} }, 1, true, "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"},
		{"apparmor", func(s *corev1.PodSpec) {
			s.Containers[0].SecurityContext = &corev1.SecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeRuntimeDefault}}
		}, 1, true, "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"},
		{"no apparmor", func(s *corev1.PodSpec) {
			s.SecurityContext = &corev1.PodSecurityContext{AppArmorProfile: &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}}
		}, 1, true, "", ""},
		{"taint", func(*corev1.PodSpec) {}, 1, false, "TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"},
		{"taint tolerated", tolerate, 1, false, "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := room{node: node, allocatable: corev1.ResourceList{
				corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi"), corev1.ResourcePods: resource.MustParse("3"),
			}}
			for range test.others {
				r.pods = append(r.pods, other)
			}
			refused := r.refuses(pod(test.change), test.static)
			if refused == nil {
				refused = &podFailure{}
			}
			want := ""
			if test.says != "" {
				want = "Pod was rejected: " + test.says
			}
			if refused.reason != test.reason || refused.message != want {
				t.Errorf("the node says %q, %q, want %q, %q", refused.reason, refused.message, test.reason, want)
			}
		})
	}
}
