package machine

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Need is something a machine must have: how to see whether it does, and the
// one line that tells what to do when it does not.
type Need struct {
	Name   string // as --ignore-preflight-errors says it
	OK     func() bool
	Remedy string
}

var needsRoot = Need{"IsPrivilegedUser", func() bool { return os.Geteuid() == 0 }, "needs root: run it with sudo"}

// ContainerNeeds are what containers and their network need of a machine,
// checked before anything is done, so that nothing is half done.
var ContainerNeeds = []Need{
	{"FileExisting-iptables", program("iptables-restore"), "iptables is missing: apt-get install iptables"},
	{"FileExisting-runc", program("runc"), "runc is missing: apt-get install runc"},
	{"FileExisting-nsenter", program("nsenter"), "nsenter is missing: apt-get install util-linux"},
	{"FileExisting-conntrack", program("conntrack"), "conntrack is missing: apt-get install conntrack"},
	{"FileExisting-ip", program("ip"), "ip is missing: apt-get install iproute2"},
	{"FileExisting-busybox", func() bool { _, err := findBusybox(); return err == nil }, "a statically linked busybox is missing: apt-get install busybox-static"},
	{"KernelOverlay", func() bool { return fileSystem("overlay") }, "the kernel has no overlayfs: modprobe overlay (or a kernel with CONFIG_OVERLAY_FS)"},
	{
		"KernelBridgeNetfilter",
		func() bool { return exists(bridgeCallsIptables) || modprobe("br_netfilter") },
		"the kernel has no br_netfilter: modprobe br_netfilter (or a kernel with CONFIG_BRIDGE_NETFILTER)",
	},
	{
		"SystemVerification-cgroup",
		func() bool {
			return exists("/sys/fs/cgroup") && (exists("/sys/fs/cgroup/cgroup.controllers") || exists("/sys/fs/cgroup/memory"))
		},
		"no cgroup hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup",
	},
}

const bridgeCallsIptables = "/proc/sys/net/bridge/bridge-nf-call-iptables"

// Check names everything that is missing, a line each. Without root the other
// answers mean little, so that comes alone.
func Check(needs ...Need) error {
	if !needsRoot.OK() {
		return errors.New(needsRoot.Remedy)
	}
	var errs []error
	for _, n := range needs {
		if !n.OK() {
			errs = append(errs, errors.New(n.Remedy))
		}
	}
	return errors.Join(errs...)
}

func program(name string) func() bool {
	return func() bool {
		_, err := exec.LookPath(name)
		return err == nil
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// fileSystem looks into /proc/filesystems, after an attempt to load a module.
func fileSystem(name string) bool {
	listed := func() bool {
		list, err := os.ReadFile("/proc/filesystems")
		return err == nil && bytes.Contains(list, []byte("\t"+name+"\n"))
	}
	return listed() || modprobe(name) && listed()
}

func modprobe(module string) bool {
	return exec.Command("modprobe", module).Run() == nil
}

// findBusybox returns a busybox that needs no library, so that it runs in an
// image that holds nothing else.
func findBusybox() (string, error) {
	for _, name := range []string{"/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"} {
		file, err := elf.Open(name)
		if err != nil {
			continue
		}
		dynamic := file.Section(".interp") != nil
		file.Close()
		if !dynamic {
			return name, nil
		}
	}
	return "", fmt.Errorf("no static busybox in %s", strings.Join([]string{"/bin", "/usr/bin", "/usr/local/bin"}, ", "))
}
