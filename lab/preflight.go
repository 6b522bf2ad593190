package lab

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// need is something a machine must have: how to see whether it does, and the
// one line that tells what to do when it does not.
type need struct {
	ok     func() bool
	remedy string
}

// needs are checked before anything is done, so that nothing is half done.
var needs = []need{
	{func() bool { return os.Geteuid() == 0 }, "needs root: run it with sudo"},
	{program("iptables-restore"), "iptables is missing: apt-get install iptables"},
	{program("runc"), "runc is missing: apt-get install runc"},
	{program("nsenter"), "nsenter is missing: apt-get install util-linux"},
	{program("conntrack"), "conntrack is missing: apt-get install conntrack"},
	{program("ip"), "ip is missing: apt-get install iproute2"},
	{func() bool { _, err := findBusybox(); return err == nil }, "a statically linked busybox is missing: apt-get install busybox-static"},
	{func() bool { return fileSystem("overlay") }, "the kernel has no overlayfs: modprobe overlay (or a kernel with CONFIG_OVERLAY_FS)"},
	{
		func() bool { return exists("/proc/sys/net/bridge/bridge-nf-call-iptables") || modprobe("br_netfilter") },
		"the kernel has no br_netfilter: modprobe br_netfilter (or a kernel with CONFIG_BRIDGE_NETFILTER)",
	},
	{
		func() bool {
			return exists("/sys/fs/cgroup") && (exists("/sys/fs/cgroup/cgroup.controllers") || exists("/sys/fs/cgroup/memory"))
		},
		"no cgroup hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup",
	},
}

// ipvsNeeds are those of --proxy-mode=ipvs.
var ipvsNeeds = []need{
	{
		func() bool { return exists("/proc/net/ip_vs") || modprobe("ip_vs") && exists("/proc/net/ip_vs") },
		"--proxy-mode ipvs: the kernel has no IPVS: modprobe ip_vs (or a kernel with CONFIG_IP_VS), or use --proxy-mode nftables",
	},
	{program("ipset"), "--proxy-mode ipvs: ipset is missing: apt-get install ipset"},
}

// preflight names everything that is missing for a lab of this proxy mode, a
// line each.
func preflight(proxyMode string) error {
	if os.Geteuid() != 0 {
		return errors.New(needs[0].remedy) // without root the other answers mean little
	}
	var errs []error
	list := needs
	if proxyMode == "ipvs" {
		list = slices.Concat(needs, ipvsNeeds)
	}
	for _, n := range list {
		if !n.ok() {
			errs = append(errs, errors.New(n.remedy))
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
