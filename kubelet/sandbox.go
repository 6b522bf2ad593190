package kubelet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"

	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// A sandbox is what the containers of a pod share: network, host name, IPC, /dev/shm, and the files
// resolv.conf and hosts. Its files stand in the pod's two directories, of which the next boot finds only
// the first:
//
//	pods/UID/sandbox.json       the record below; written first, so that a crash leaves nothing unknown
//	run/pods/UID/ns/net ipc uts bind mounts which keep the namespaces
//	run/pods/UID/shm            tmpfs, /dev/shm of all containers
//	run/pods/UID/etc-hosts, resolv.conf, hostname
type sandboxRecord struct {
	ID           string   `json:"id"`
	PodNamespace string   `json:"podNamespace"`
	PodName      string   `json:"podName"`
	PodUID       string   `json:"podUID"`
	HostNetwork  bool     `json:"hostNetwork"`
	IPs          []string `json:"ips,omitempty"`
	// PortMappings are the pod's host ports: what was forwarded has to be taken back.
	PortMappings []portMapping `json:"portMappings,omitempty"`
	Cgroup       string        `json:"cgroup"`
	Created      time.Time     `json:"created"`
	// Ready is set when all of the sandbox is made; without it only removal makes sense.
	Ready bool `json:"ready"`
	// Boot is bootID at the time of creation: another one now means that everything but the files is gone.
	Boot string `json:"boot"`

	dirs podDirs
}

const sandboxFile = "sandbox.json"

func (s sandboxRecord) path(name string) string { return filepath.Join(s.dirs.run, name) }
func (s sandboxRecord) netns() string           { return s.path("ns/net") }
func (s sandboxRecord) file() string            { return filepath.Join(s.dirs.state, sandboxFile) }
func (s sandboxRecord) save() error             { return shim.WriteFile(s.file(), s) }

// newID makes a name like the ones which other runtimes give: 64 hex digits.
func newID() string {
	random := make([]byte, 32)
	rand.Read(random)
	return hex.EncodeToString(random)
}

// createSandbox makes a pod's sandbox. After an error nothing of it is left.
func (k *Kubelet) createSandbox(ctx context.Context, pod *corev1.Pod) (sandboxRecord, error) {
	s := sandboxRecord{
		ID: newID(), PodNamespace: pod.Namespace, PodName: pod.Name, PodUID: string(pod.UID),
		HostNetwork: pod.Spec.HostNetwork, PortMappings: portMappings(pod), Cgroup: podCgroup(k.cfg.CgroupRoot, pod), Created: time.Now().UTC(), Boot: bootID(),
		dirs: k.podDirs(string(pod.UID)),
	}
	if err := sandboxable(pod); err != nil {
		return s, err
	}
	if !s.HostNetwork {
		if err := k.network.ready(); err != nil {
			return s, err
		}
	}
	if err := s.dirs.make(); err != nil {
		return s, err
	}
	if err := s.save(); err != nil {
		return s, fmt.Errorf("write sandbox record: %w", err)
	}
	err := k.fillSandbox(ctx, &s, pod)
	if err != nil {
		return s, errors.Join(err, k.removeSandbox(context.WithoutCancel(ctx), s))
	}
	return s, nil
}

// sandboxable tells what a pod wants which there is not: to go on without would give it less, or more, than it
// asks for.
func sandboxable(pod *corev1.Pod) error {
	if class := pod.Spec.RuntimeClassName; class != nil && *class != "" {
		return fmt.Errorf("runtimeclass.node.k8s.io %q not found", *class)
	}
	if own := pod.Spec.HostUsers; own != nil && !*own {
		return errors.New("can't set `spec.hostUsers: false`, runtime does not support user namespaces")
	}
	return nil
}

func (k *Kubelet) fillSandbox(ctx context.Context, s *sandboxRecord, pod *corev1.Pod) error {
	if err := runtime.SetCgroup(s.Cgroup, podLimits(pod)); err != nil {
		return err
	}
	host, fqdn := podHostname(pod, k.cfg.ClusterDomain)
	want := runtime.NewNamespaces{
		Network: !s.HostNetwork, UTS: !s.HostNetwork, IPC: !pod.Spec.HostIPC, Hostname: k.machineName(pod), Sysctls: sysctls(pod),
	}
	if err := runtime.NewPodNamespaces(s.path("ns"), want); err != nil {
		return err
	}
	if shared := pod.Spec.ShareProcessNamespace; shared != nil && *shared {
		if err := k.runtime.NewPIDNamespace(ctx, s.path("ns")); err != nil {
			return err
		}
	}
	if err := mountShm(s.path("shm"), pod); err != nil {
		return err
	}
	s.IPs = k.cfg.NodeIPs
	if !s.HostNetwork {
		ips, err := k.network.attach(ctx, *s)
		if err != nil {
			return err
		}
		s.IPs = ips
	}
	if err := k.writeSandboxFiles(*s, pod, host, fqdn); err != nil {
		return err
	}
	s.Ready = true
	return s.save()
}

// everyGroup tells whether all groups there are exist here, too: not in a user namespace, where the kernel refuses
// settings that name others.
func everyGroup() bool {
	ranges, err := os.ReadFile("/proc/self/gid_map")
	return err == nil && strings.Join(strings.Fields(string(ranges)), " ") == "0 0 4294967295"
}

// sysctls are what is set in the pod's new namespaces. Every program of a pod may listen on every port, 80 for
// one, and ping, whoever it runs as: there is nobody else in the pod's network whom this could harm. containerd
// does the same (enable_unprivileged_ports, enable_unprivileged_icmp).
func sysctls(pod *corev1.Pod) map[string]string {
	values := map[string]string{}
	if !pod.Spec.HostNetwork {
		values["net.ipv4.ip_unprivileged_port_start"] = "0"
		if everyGroup() {
			values["net.ipv4.ping_group_range"] = "0 2147483647"
		}
	}
	if pod.Spec.SecurityContext == nil {
		return values
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		values[sysctl.NormalizeName(s.Name)] = s.Value
	}
	return values
}

func mountShm(dir string, pod *corev1.Pod) error {
	if pod.Spec.HostIPC {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make shared memory: %w", err)
	}
	if err := unix.Mount("shm", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=1777,size=65536k"); err != nil {
		return fmt.Errorf("mount shared memory: %w", err)
	}
	return nil
}

func (k *Kubelet) writeSandboxFiles(s sandboxRecord, pod *corev1.Pod, host, fqdn string) error {
	hosts := hostsFile(s.IPs, host, fqdn, pod.Spec.HostAliases)
	if s.HostNetwork {
		node, err := os.ReadFile("/etc/hosts")
		if err != nil {
			return fmt.Errorf("read hosts file of the node: %w", err)
		}
		hosts = "# Kubernetes-managed hosts file (host network).\n" + string(node) + aliasLines(pod.Spec.HostAliases)
	}
	resolv, complaints := podResolvConf(pod, clusterDNS{k.cfg.ClusterDNS, k.cfg.ClusterDomain}, readResolvConf(k.cfg.ResolvConf)).limited()
	for _, complaint := range complaints {
		k.event(pod, "", corev1.EventTypeWarning, "DNSConfigForming", complaint)
	}
	for name, text := range map[string]string{"etc-hosts": hosts, "resolv.conf": resolv.String(), "hostname": k.machineName(pod) + "\n"} {
		if err := os.WriteFile(s.path(name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// removeSandbox gives everything back: address, namespaces, mounts, control groups. It may be called
// again. The containers must have been removed before; the pod's volumes stay.
func (k *Kubelet) removeSandbox(ctx context.Context, s sandboxRecord) error {
	if !s.HostNetwork {
		if err := k.network.detach(ctx, s); err != nil {
			return err
		}
	}
	if err := runtime.RemovePodNamespaces(s.path("ns")); err != nil {
		return err
	}
	shm := s.path("shm")
	if err := unix.Unmount(shm, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount shared memory: %w", err)
	}
	if err := runtime.RemoveCgroup(s.Cgroup); err != nil {
		return err
	}
	return os.RemoveAll(s.file())
}

// sandboxAlive tells whether a sandbox found on disk still has its namespaces: not after a reboot.
func sandboxAlive(s sandboxRecord) bool {
	return s.Ready && s.Boot == bootID() && (s.HostNetwork || isMountPoint(s.netns()))
}

// bootID names the present run of this node: the kernel's boot, the process namespace, and the start
// time of its process 1. A lab node which is stopped and started keeps the first and changes the others.
func bootID() string {
	kernel, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	stat, err := os.ReadFile("/proc/1/stat")
	if err != nil {
		return ""
	}
	// The second field is the name in brackets and may contain anything; the start time is the
	// twentieth field after it (proc(5), starttime).
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return ""
	}
	return strings.TrimSpace(string(kernel)) + "/" + namespace + "/" + fields[19]
}
