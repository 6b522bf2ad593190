package machine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/podarium/podarium/machine/components"
)

// check is one look at the machine. What it says as an error stops init and
// join, unless --ignore-preflight-errors names it; as a warning it is only told.
type check struct {
	name string
	warn bool
	run  func() error
}

// preflight runs all checks and tells everything that is wrong at once.
func (m *Machine) preflight(checks []check, ignore []string) error {
	m.say("preflight", "checking this machine (%d checks)", len(checks))
	if !needsRoot.OK() {
		return errors.New(needsRoot.Remedy) // without root the other answers mean little
	}
	return m.look(checks, ignore)
}

func (m *Machine) look(checks []check, ignore []string) error {
	var errs []error
	for _, c := range checks {
		err := c.run()
		switch {
		case err == nil:
		case c.warn:
			m.say("preflight", "WARNING %s: %v", c.name, err)
		case slices.Contains(ignore, c.name) || slices.Contains(ignore, "all"):
			m.say("preflight", "ignored %s: %v", c.name, err)
		default:
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("this machine is not ready (what is known to do no harm may be named in --ignore-preflight-errors):\n%w", errors.Join(errs...))
	}
	return nil
}

// nodeChecks are those of every machine.
func nodeChecks(cluster components.Cluster, node components.Node) []check {
	var checks []check
	for _, need := range append(slices.Clone(ContainerNeeds), ProxyNeeds(cluster.ProxyMode)...) {
		checks = append(checks, check{need.Name, false, func() error {
			if need.OK() {
				return nil
			}
			return errors.New(need.Remedy)
		}})
	}
	checks = append(
		checks,
		check{"Systemd", false, runsSystemd},
		check{"NodeName", false, func() error { return validNodeName(node.Name) }},
		check{"NodeIP", false, func() error { return localAddress(node.IP) }},
		check{"Ranges", false, func() error { return freeRanges(cluster) }},
		check{"DirAvailable--etc-kubernetes", false, foreignCluster},
		check{"Swap", true, func() error { return swapOff("/proc/swaps") }},
		check{"IPTables", true, oneIptables},
		check{"Firewalld", true, noFirewalld},
	)
	for unit, ports := range nodePorts {
		checks = append(checks, portChecks(unit, ports)...)
	}
	return checks
}

// Ports which components bind, by unit: a unit which runs already has its own.
var (
	nodePorts         = map[string][]int{"kubelet": {10250}, "kube-proxy": {10256}}
	controlPlanePorts = map[string][]int{"kube-apiserver": {components.APIPort}, "kube-controller-manager": {10257}, "kube-scheduler": {10259}}
)

// ProxyNeeds are what one way to carry Services needs beside.
func ProxyNeeds(mode string) []Need {
	switch mode {
	case "nftables":
		return []Need{{"FileExisting-nft", program("nft"), "nft is missing: apt-get install nftables"}}
	case "ipvs":
		return []Need{
			{"KernelIPVS", func() bool { return exists("/proc/net/ip_vs") || modprobe("ip_vs") && exists("/proc/net/ip_vs") }, "--proxy-mode ipvs: the kernel has no IPVS: modprobe ip_vs (or a kernel with CONFIG_IP_VS), or use --proxy-mode nftables"},
			{"FileExisting-ipset", program("ipset"), "--proxy-mode ipvs: ipset is missing: apt-get install ipset"},
		}
	default:
		return nil
	}
}

func runsSystemd() error {
	if exists("/run/systemd/system") {
		return nil
	}
	return errors.New("this machine is not run by systemd, which is to run the components: use `podarium up` for a whole cluster on one machine")
}

func validNodeName(name string) error {
	if wrong := validation.IsDNS1123Subdomain(name); len(wrong) > 0 {
		return fmt.Errorf("%q cannot be a node's name: use lower-case letters, digits, '-' and '.', with --node-name or hostnamectl set-hostname", name)
	}
	return nil
}

// localAddress: a node is known by an address which it has, and which others reach.
func localAddress(ip netip.Addr) error {
	have, err := machineAddresses()
	if err != nil {
		return err
	}
	if ip.IsLoopback() || ip.IsUnspecified() || !slices.ContainsFunc(have, func(p netip.Prefix) bool { return p.Addr() == ip }) {
		return fmt.Errorf("%s is no address of this machine by which others reach it; it has %v", ip, have)
	}
	return nil
}

// machineAddresses are those of links which are not our own making.
func machineAddresses() ([]netip.Prefix, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	var list []netip.Prefix
	for _, link := range links {
		if link.Flags&net.FlagLoopback != 0 || slices.Contains(ownLinks, link.Name) {
			continue
		}
		addrs, err := link.Addrs()
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", link.Name, err)
		}
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Is4() {
				list = append(list, prefix)
			}
		}
	}
	return list, nil
}

// ownLinks are those which the components make.
var ownLinks = []string{"cni0", "vxlan0", "kube-ipvs0", "portmap"}

// freeRanges: a pod's or Service's address must not be that of something this
// machine reaches otherwise.
func freeRanges(cluster components.Cluster) error {
	have, err := machineAddresses()
	if err != nil {
		return err
	}
	var errs []error
	for _, address := range have {
		errs = append(errs, components.Disjoint(
			components.Range{Flag: "--pod-network-cidr", Prefix: cluster.ClusterCIDR},
			components.Range{Flag: "this machine's network", Prefix: address.Masked()},
		), components.Disjoint(
			components.Range{Flag: "--service-cidr", Prefix: cluster.ServiceClusterIPRange},
			components.Range{Flag: "this machine's network", Prefix: address.Masked()},
		))
	}
	return errors.Join(errs...)
}

// foreignCluster: another Kubernetes is not to be overwritten. A CA alone, which
// somebody has brought along for this cluster, is welcome.
func foreignCluster() error {
	if exists(stateFile) {
		return nil
	}
	for _, glob := range []string{components.Etc + "/*.conf", components.Etc + "/manifests/*", "/var/lib/kubelet/*", "/var/lib/etcd/*"} {
		if found, _ := filepath.Glob(glob); len(found) > 0 {
			return fmt.Errorf("another Kubernetes has left %s: remove that first, for example with kubeadm reset", found[0])
		}
	}
	return nil
}

// swapOff reads /proc/swaps: a heading, then a line for each swap device.
func swapOff(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil //nolint:nilerror // a kernel without swap has no such file
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) < 2 {
		return nil
	}
	device, _, _ := strings.Cut(lines[1], " ")
	return fmt.Errorf("swap is on (%s): a container which reaches its memory limit slows the machine down before it is killed; swapoff -a, and take it out of /etc/fstab", device)
}

// oneIptables: rules of the other kind stand beside ours, and both decide. It
// does not matter which kind iptables is.
func oneIptables() error {
	version, err := exec.Command("iptables", "--version").Output()
	if err != nil {
		return nil //nolint:nilerror // that it is missing has been told
	}
	other := "iptables-legacy-save"
	if strings.Contains(string(version), "legacy") {
		other = "iptables-nft-save"
	}
	if strings.Contains(other, "legacy") && !exists("/proc/net/ip_tables_names") {
		return nil // to ask would load the legacy kind into the kernel
	}
	saved, err := exec.Command(other).Output()
	if err != nil || !strings.Contains(string(saved), "\n-A ") {
		return nil //nolint:nilerror // not installed: then nobody has made rules with it
	}
	return fmt.Errorf("this machine has rules of both kinds, and iptables is %s: look at the others with %s, and remove them or choose the kind with update-alternatives --config iptables",
		strings.TrimSpace(string(version)), other)
}

// noFirewalld: its tables come beside ours, and what it drops stays dropped.
// (The policy DROP of iptables' own chain FORWARD does no harm: the kubelet
// lets pods through there.)
func noFirewalld() error {
	if !active("firewalld") {
		return nil
	}
	return errors.New("firewalld is active and drops what it does not know: systemctl disable --now firewalld, or let pods through with " +
		"firewall-cmd --permanent --zone=trusted --add-interface=cni0 and ports 6443 and 10250/tcp, 4789/udp between nodes")
}

func portChecks(unit string, ports []int) []check {
	var checks []check
	for _, port := range ports {
		checks = append(checks, check{fmt.Sprintf("Port-%d", port), false, func() error { return portFree(port, unit) }})
	}
	return checks
}

// portFree: nobody but our own unit, from an earlier run, may have a port.
func portFree(port int, unit string) error {
	if unit != "" && active(unit) {
		return nil
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("", strconv.Itoa(port)))
	if err != nil {
		return fmt.Errorf("port %d, which %s needs, is in use%s: stop that program (find it with: ss -ltnp sport = :%d)", port, unit, portOwner(port), port)
	}
	return listener.Close()
}

// portOwner names the program which listens on a port: /proc/net/tcp tells the
// socket's inode, and some process has it open.
func portOwner(port int) string {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		inode := listeningInode(string(data), port)
		links, _ := filepath.Glob("/proc/[0-9]*/fd/*")
		for _, link := range links {
			if target, err := os.Readlink(link); inode != "" && err == nil && target == "socket:["+inode+"]" {
				pid := strings.Split(link, "/")[2]
				name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm"))
				return fmt.Sprintf(" by %s (PID %s)", strings.TrimSpace(string(name)), pid)
			}
		}
	}
	return ""
}

// listeningInode finds the line "… LOCAL:PORT REMOTE 0A … INODE" (0A is LISTEN).
func listeningInode(table string, port int) string {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) > 9 && f[3] == "0A" && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
			return f[9]
		}
	}
	return ""
}
