package machine

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/podarium/podarium/internal/atomicfile"
	"github.com/podarium/podarium/machine/components"
)

// Files by which modules and settings are there after a boot too.
const (
	modulesFile = "/etc/modules-load.d/podarium.conf"
	sysctlFile  = "/etc/sysctl.d/90-podarium.conf"
)

// sysctls are what every guide to Kubernetes sets on a machine first: a node is a
// router for its pods. Without bridge-nf-call-iptables the answer of a pod to a
// pod on the same bridge passes the bridge without conntrack seeing it, so a
// Service between them times out.
var sysctls = [][2]string{
	{"net/ipv4/ip_forward", "1"},
	{"net/bridge/bridge-nf-call-iptables", "1"},
}

// anyModules are those of all ways, and xt_ipvs, which the rules of ipvs mode
// load by themselves: in this order, for each needs some before it.
var anyModules = append(modules(components.Cluster{PodNetwork: "vxlan", ProxyMode: "ipvs"}), "xt_ipvs")

// modules which the chosen ways need. overlay and br_netfilter are needed before
// anybody could have asked for them; the rest saves the first packet the wait.
func modules(cluster components.Cluster) []string {
	list := []string{"overlay", "br_netfilter"}
	if cluster.PodNetwork == "vxlan" {
		list = append(list, "vxlan")
	}
	if cluster.ProxyMode == "ipvs" {
		list = append(list, "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")
	}
	return list
}

// prepareKernel loads modules and sets settings, now and for every boot.
func (m *Machine) prepareKernel(cluster components.Cluster) error {
	var text strings.Builder
	for _, module := range modules(cluster) {
		fmt.Fprintln(&text, module)
		if out, err := exec.Command("modprobe", module).CombinedOutput(); err != nil {
			return fmt.Errorf("load kernel module %s: %w: %s", module, err, bytes.TrimSpace(out))
		}
	}
	changedModules, err := writeIfNew(modulesFile, []byte("# Written by podarium; removed by podarium reset.\n"+text.String()), 0o644)
	if err != nil {
		return err
	}
	text.Reset()
	for _, s := range sysctls {
		fmt.Fprintf(&text, "%s = %s\n", strings.ReplaceAll(s[0], "/", "."), s[1])
		if err := setSysctl(s[0], s[1]); err != nil {
			return err
		}
	}
	changedSysctls, err := writeIfNew(sysctlFile, []byte("# Written by podarium; removed by podarium reset.\n"+text.String()), 0o644)
	if err != nil {
		return err
	}
	m.found("kernel", changedModules || changedSysctls, "modules %s; packets are forwarded", strings.Join(modules(cluster), " "))
	return nil
}

// setSysctl writes a kernel setting such as "net/ipv4/ip_forward".
func setSysctl(name, value string) error {
	if err := os.WriteFile(filepath.Join("/proc/sys", name), []byte(value), 0o644); err != nil {
		return fmt.Errorf("set %s: %w", name, err)
	}
	return nil
}

// sysctl reads one; "" when this kernel has it not (yet).
func sysctl(name string) string {
	data, err := os.ReadFile(filepath.Join("/proc/sys", name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// writeIfNew leaves a file alone that has the content already.
func writeIfNew(path string, data []byte, mode os.FileMode) (changed bool, err error) {
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, data) {
		return false, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	return true, atomicfile.Write(path, data, mode)
}
