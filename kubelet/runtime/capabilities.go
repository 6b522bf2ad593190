package runtime

import (
	"os"
	"slices"
	"strconv"
	"strings"
)

// DefaultCapabilities are what containerd and Docker give to a container.
var DefaultCapabilities = []string{
	"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
	"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
}

// AddDrop applies a pod's capabilities to the default set. "ALL" means all; names come without CAP_.
func AddDrop(add, drop []string) []string {
	set := slices.Clone(DefaultCapabilities)
	full := func(name string) string { return "CAP_" + strings.TrimPrefix(strings.ToUpper(name), "CAP_") }
	for _, name := range drop {
		if strings.EqualFold(name, "ALL") {
			set = nil
		}
	}
	for _, name := range add {
		if strings.EqualFold(name, "ALL") {
			set = AllCapabilities()
		} else if !slices.Contains(set, full(name)) {
			set = append(set, full(name))
		}
	}
	set = slices.DeleteFunc(set, func(have string) bool {
		return slices.ContainsFunc(drop, func(name string) bool { return full(name) == have })
	})
	slices.Sort(set)
	return set
}

// capabilities are all that Linux has, each at its number (capability(7), linux/capability.h).
var capabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
	"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL", "CAP_SETFCAP",
	"CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ",
	"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// AllCapabilities are all that this process has: nobody can give more. A kubelet in a virtual machine has
// all there are, one in a container perhaps not.
func AllCapabilities() []string {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return slices.Clone(DefaultCapabilities)
	}
	return effectiveCapabilities(string(status))
}

// effectiveCapabilities reads the line "CapEff:\t000001feffffffff" of /proc/self/status.
func effectiveCapabilities(status string) []string {
	for line := range strings.Lines(status) {
		digits, ok := strings.CutPrefix(line, "CapEff:")
		if !ok {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(digits), 16, 64)
		if err != nil {
			break
		}
		var names []string
		for number, name := range capabilities {
			if bits&(1<<number) != 0 {
				names = append(names, name)
			}
		}
		return names
	}
	return slices.Clone(DefaultCapabilities)
}
