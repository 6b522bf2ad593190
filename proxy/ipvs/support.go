package ipvs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// Supported tells in one line what this machine lacks for ipvs mode.
func Supported() error {
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		_ = exec.Command("modprobe", "-a", "ip_vs", "ip_vs_rr", "ip_vs_sh", "dummy").Run() // what matters is whether it helped
	}
	if _, err := os.Stat("/proc/net/ip_vs"); err != nil {
		return errors.New("--proxy-mode=ipvs: the kernel has no IPVS: modprobe ip_vs (or a kernel with CONFIG_IP_VS), or use --proxy-mode=nftables")
	}
	if _, err := exec.LookPath("ipset"); err != nil {
		return errors.New("--proxy-mode=ipvs: ipset is missing: apt-get install ipset")
	}
	if _, err := os.Stat("/etc/protocols"); err != nil {
		return errors.New("--proxy-mode=ipvs: /etc/protocols is missing, without which ipset knows no tcp: apt-get install netbase")
	}
	return nil
}

// SupportsIPv6 tells whether this machine can do it for IPv6, too: kernels may be
// built without that part of IPVS.
func SupportsIPv6(ctx context.Context) bool {
	k, err := openKernel()
	if err != nil || !ipv6.tool.Works(ctx) {
		return false
	}
	defer k.ipvs.Close()
	return k.knows(ipv6, "rr") == nil
}

// knows asks the kernel for a scheduler, by the one sure way: a virtual server
// that uses it. The kernel loads the scheduler's module by itself.
func (k *kernel) knows(f family, scheduler string) error {
	list, err := k.ipvs.GetServices()
	if err != nil {
		return fmt.Errorf("list virtual servers: %w", err)
	}
	for _, s := range list {
		if s.SchedName == scheduler && s.AddressFamily == f.number {
			return nil
		}
	}
	probe := portal{"tcp", f.probe}
	_ = k.take(step{verb: deleteServer, at: probe}) // of a run that was killed here
	err = k.take(step{verb: addServer, at: probe, server: &server{scheduler: scheduler}})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("--ipvs-scheduler %q: the kernel does not know it: modprobe ip_vs_%s, or use rr", scheduler, scheduler)
	}
	if err != nil {
		return fmt.Errorf("make a virtual server with scheduler %s: %w", scheduler, err)
	}
	return k.take(step{verb: deleteServer, at: probe})
}

// setSysctls: connections of IPVS are known to conntrack too, or they could not
// be masqueraded; a connection to a real server which is gone, and the memory
// that a client belongs to one which drains, end with the next packet. What
// conn_reuse_mode has to be depends on the kernel; from Linux 5.9 on it is right
// as it is. Forwarding of IPv6 is left to who makes the pods' network, as
// kube-proxy leaves it: with it a machine hears no router any more.
func setSysctls(strictARP bool) error {
	values := [][2]string{
		{"net/ipv4/vs/conntrack", "1"},
		{"net/ipv4/vs/expire_nodest_conn", "1"},
		{"net/ipv4/vs/expire_quiescent_template", "1"},
		{"net/ipv4/ip_forward", "1"},
	}
	if strictARP {
		values = append(values, [2]string{"net/ipv4/conf/all/arp_ignore", "1"}, [2]string{"net/ipv4/conf/all/arp_announce", "2"})
	}
	for _, v := range values {
		if err := os.WriteFile("/proc/sys/"+v[0], []byte(v[1]), 0o644); err != nil {
			return fmt.Errorf("set sysctl %s: %w", v[0], err)
		}
	}
	return nil
}

// setTimeouts sets those that are configured; 0 leaves the kernel's.
func (k *kernel) setTimeouts(cfg Config) error {
	if cfg.TCPTimeout == 0 && cfg.TCPFinTimeout == 0 && cfg.UDPTimeout == 0 {
		return nil
	}
	if err := k.ipvs.SetConfig(&ipvs.Config{TimeoutTCP: cfg.TCPTimeout, TimeoutTCPFin: cfg.TCPFinTimeout, TimeoutUDP: cfg.UDPTimeout}); err != nil {
		return fmt.Errorf("set timeouts of IPVS: %w", err)
	}
	return nil
}
