package kubelet

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
)

// safeSysctls are the settings of the kernel which any pod may have: each belongs to a namespace of the pod and
// has no effect outside. What a pod must not have is for instance kernel.core_pattern, by which the kernel would
// run a program of the pod's choice as root of the machine. The list is Kubernetes' own, see
// https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls.
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_wmem",
}

// CheckUnsafeSysctls looks at --allowed-unsafe-sysctls, names such as net.core.somaxconn or kernel.msg*: only
// what belongs to a namespace can be allowed.
func CheckUnsafeSysctls(patterns []string) error {
	for _, pattern := range patterns {
		if namespace, _, _ := sysctl.GetNamespace(pattern); namespace != sysctl.IPCNamespace && namespace != sysctl.NetNamespace {
			return fmt.Errorf("the sysctls %q are not known to be namespaced", pattern)
		}
	}
	return nil
}

// forbiddenSysctl is why a pod with these settings is not run; empty when nothing is wrong.
func forbiddenSysctl(pod *corev1.Pod, unsafe []string) string {
	if pod.Spec.SecurityContext == nil {
		return ""
	}
	for _, setting := range pod.Spec.SecurityContext.Sysctls {
		namespace, name, _ := sysctl.GetNamespace(setting.Name)
		switch {
		case !slices.Contains(safeSysctls, name) && !slices.ContainsFunc(unsafe, func(pattern string) bool { return sysctlMatches(pattern, name) }):
			return fmt.Sprintf("forbidden sysctl: %q not allowlisted", name)
		case namespace == sysctl.NetNamespace && pod.Spec.HostNetwork, namespace == sysctl.IPCNamespace && pod.Spec.HostIPC:
			return fmt.Sprintf("forbidden sysctl: %q not allowed with host %s enabled", name, namespace)
		}
	}
	return ""
}

func sysctlMatches(pattern, name string) bool {
	prefix, all := strings.CutSuffix(sysctl.NormalizeName(pattern), "*")
	return name == prefix || all && strings.HasPrefix(name, prefix)
}
