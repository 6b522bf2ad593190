package kubelet

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestForbiddenSysctl(t *testing.T) {
	for _, test := range []struct {
		name, want           string
		unsafe               []string
		hostNetwork, hostIPC bool
	}{
		{name: "net.ipv4.ip_unprivileged_port_start"},
		{name: "net/ipv4/tcp_syncookies"},
		{name: "kernel.core_pattern", want: `forbidden sysctl: "kernel.core_pattern" not allowlisted`},
		{name: "kernel/core_pattern", want: `forbidden sysctl: "kernel.core_pattern" not allowlisted`},
		{name: "net.core.somaxconn", want: `forbidden sysctl: "net.core.somaxconn" not allowlisted`},
		{name: "net.core.somaxconn", unsafe: []string{"net.core.somaxconn"}},
		{name: "net.core.somaxconn", unsafe: []string{"net.*"}},
		{name: "net.core.somaxconn", unsafe: []string{"net.core"}, want: `forbidden sysctl: "net.core.somaxconn" not allowlisted`},
		{name: "kernel.msgmax", unsafe: []string{"kernel.msg*"}},
		{name: "kernel.core_pattern", unsafe: []string{"kernel.msg*"}, want: `forbidden sysctl: "kernel.core_pattern" not allowlisted`},
		{name: "net.ipv4.tcp_syncookies", hostNetwork: true, want: `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		{name: "kernel.shm_rmid_forced", hostIPC: true, want: `forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled`},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{
			HostNetwork: test.hostNetwork, HostIPC: test.hostIPC,
			SecurityContext: &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: test.name, Value: "1"}}},
		}}
		if got := forbiddenSysctl(pod, test.unsafe); got != test.want {
			t.Errorf("%s with %q allowed: %q, want %q", test.name, test.unsafe, got, test.want)
		}
	}
	if got := forbiddenSysctl(&corev1.Pod{}, nil); got != "" {
		t.Errorf("a pod without settings: %q", got)
	}
}

func TestCheckUnsafeSysctls(t *testing.T) {
	if err := CheckUnsafeSysctls([]string{"net.core.somaxconn", "kernel.msg*", "net.*"}); err != nil {
		t.Error(err)
	}
	for _, pattern := range []string{"kernel.core_pattern", "kernel.*", "*", "vm.swappiness", "user.max_user_namespaces"} {
		if CheckUnsafeSysctls([]string{pattern}) == nil {
			t.Errorf("--allowed-unsafe-sysctls=%s is taken", pattern)
		}
	}
}
