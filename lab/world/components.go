package world

import (
	"fmt"
	"strconv"
)

// Process is one component on a node, as PID 1 of the node starts it and
// starts it again whenever it ends.
type Process struct {
	Name string // argv[0] and the name of its log, /var/log/NAME.log
	Args []string
	// APISocket is set for the process that serves the machine's listener on
	// 127.0.0.1 (systemd's socket activation: file descriptor 3, LISTEN_FDS=1).
	APISocket bool
}

// Components lists what runs on a node, with the flags a learner will read in
// `ps`. The order is that of the data flow; all of them start at once.
func Components(cfg Config, number int) []Process {
	v := "--v=" + strconv.Itoa(cfg.Verbosity)
	var list []Process
	if number == 1 {
		list = append(list, apiServer(cfg, v), controllerManager(cfg, v), scheduler(v))
	}
	list = append(list, kubelet(cfg, number, v))
	if cfg.ProxyMode != "none" {
		list = append(list, proxy(cfg, number, v))
	}
	return list
}

func apiServer(cfg Config, v string) Process {
	args := []string{
		"--advertise-address=" + cfg.NodeIP(1).String(),
		"--secure-port=6443",
		"--client-ca-file=/etc/kubernetes/pki/ca.crt",
		"--tls-cert-file=/etc/kubernetes/pki/apiserver.crt",
		"--tls-private-key-file=/etc/kubernetes/pki/apiserver.key",
		"--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt",
		"--kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt",
		"--kubelet-client-key=/etc/kubernetes/pki/apiserver-kubelet-client.key",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=/etc/kubernetes/pki/sa.pub",
		"--service-account-signing-key-file=/etc/kubernetes/pki/sa.key",
		"--service-cluster-ip-range=" + cfg.ServiceClusterIPRange.String(),
		"--authorization-mode=Node,RBAC",
	}
	if cfg.EtcdServers != "" {
		args = append(args, "--etcd-servers="+cfg.EtcdServers)
	} else {
		args = append(args, "--data-dir=/var/lib/etcd")
	}
	return Process{Name: "kube-apiserver", Args: append(args, v), APISocket: true}
}

func controllerManager(cfg Config, v string) Process {
	return Process{Name: "kube-controller-manager", Args: []string{
		"--kubeconfig=/etc/kubernetes/controller-manager.conf",
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + cfg.ClusterCIDR.String(),
		"--node-cidr-mask-size=24",
		"--root-ca-file=/etc/kubernetes/pki/ca.crt",
		"--leader-elect=true",
		"--node-monitor-grace-period=12s", // 50 s by default: long, for somebody who waits for it
		v,
	}}
}

func scheduler(v string) Process {
	return Process{Name: "kube-scheduler", Args: []string{
		"--kubeconfig=/etc/kubernetes/scheduler.conf",
		"--leader-elect=true",
		v,
	}}
}

func kubelet(cfg Config, number int, v string) Process {
	args := []string{
		"--kubeconfig=/etc/kubernetes/kubelet.conf",
		"--hostname-override=" + NodeName(number),
		"--node-ip=" + cfg.NodeIP(number).String(),
		"--client-ca-file=/etc/kubernetes/pki/ca.crt",
		"--tls-cert-file=/var/lib/kubelet/pki/kubelet.crt",
		"--tls-private-key-file=/var/lib/kubelet/pki/kubelet.key",
		"--cgroup-root=" + cgroupRoot(cfg, number),
		"--node-lease-duration=10", // a heartbeat every 2.5 s, for the short grace period
		"--cluster-dns=" + cfg.DNSIP().String(),
		"--cluster-domain=cluster.local",
		"--image-pull-proxy=unix://" + egressSocket,
		"--pod-manifest-path=/etc/kubernetes/manifests",
	}
	if cfg.PodNetwork != "none" { // none: the learner lays the network by hand
		args = append(args, "--cluster-cidr="+cfg.ClusterCIDR.String(), "--pod-network="+cfg.PodNetwork)
	}
	return Process{Name: "kubelet", Args: append(args, v)}
}

func proxy(cfg Config, number int, v string) Process {
	return Process{Name: "kube-proxy", Args: []string{
		"--kubeconfig=/etc/kubernetes/kube-proxy.conf",
		"--hostname-override=" + NodeName(number),
		"--cluster-cidr=" + cfg.ClusterCIDR.String(),
		"--proxy-mode=" + cfg.ProxyMode,
		v,
	}}
}

// cgroupRoot is where the containers of a node are in every hierarchy:
// /podarium-lab/node-1.
func cgroupRoot(cfg Config, number int) string {
	return fmt.Sprintf("/podarium-%s/%s", cfg.Name, NodeName(number))
}
