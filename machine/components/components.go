// Package components lists the processes of a cluster with the flags a learner
// reads in `ps`: the same on a lab's node, where PID 1 of the node starts them,
// and on a machine of its own, where systemd does.
//
// It imports nothing of Kubernetes, for the lab's PID 1 uses it.
package components

import (
	"net/netip"
	"path"
	"strconv"
)

// Process is one component: argv[0], which is also the name of its log,
// /var/log/NAME.log, and its arguments.
type Process struct {
	Name string
	Args []string
}

// Program is the binary which becomes that process, by the name it is started as.
func (p Process) Program() string {
	switch p.Name {
	case "kubelet":
		return "podarium-node"
	case "kube-proxy":
		return "podarium-proxy"
	default:
		return "podarium"
	}
}

// With adds flags which only this place needs.
func (p Process) With(flags ...string) Process {
	return Process{p.Name, append(append([]string{}, p.Args...), flags...)}
}

// Cluster is what the flags say that is the same on all nodes.
type Cluster struct {
	ControlPlane          netip.Addr // where the API server is, at port 6443
	ClusterCIDR           netip.Prefix
	ServiceClusterIPRange netip.Prefix
	ProxyMode             string // iptables, nftables, ipvs, userspace, or none
	PodNetwork            string // host-gw, vxlan, or none
	EtcdServers           string // URLs; empty: etcd within kube-apiserver
	Verbosity             int
}

// Node is what they say that is one node's own.
type Node struct {
	Name string
	IP   netip.Addr
}

// APIPort is where every API server listens.
const APIPort = 6443

// Domain is the domain of all clusters.
const Domain = "cluster.local"

// KubernetesIP is the ClusterIP of default/kubernetes, 10.96.0.1.
func (c Cluster) KubernetesIP() netip.Addr { return Nth(c.ServiceClusterIPRange, 1) }

// DNSIP is the ClusterIP of kube-system/kube-dns, 10.96.0.10.
func (c Cluster) DNSIP() netip.Addr { return Nth(c.ServiceClusterIPRange, 10) }

// ServerURL is where the cluster's own components find the API server.
func (c Cluster) ServerURL() string {
	return "https://" + netip.AddrPortFrom(c.ControlPlane, APIPort).String()
}

func (c Cluster) verbosity() string { return "--v=" + strconv.Itoa(c.Verbosity) }

// Where certificates, keys and kubeconfigs are on every node, as kubeadm has it.
const (
	Etc       = "/etc/kubernetes"
	PKI       = Etc + "/pki"
	KubeletPK = "/var/lib/kubelet/pki"
)

func pki(name string) string { return path.Join(PKI, name) }

// APIServer is the API server with etcd inside, or with EtcdServers.
func APIServer(c Cluster) Process {
	args := []string{
		"--advertise-address=" + c.ControlPlane.String(),
		"--secure-port=" + strconv.Itoa(APIPort),
		"--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
		"--service-account-issuer=https://kubernetes.default.svc." + Domain,
		"--service-account-key-file=" + pki("sa.pub"),
		"--service-account-signing-key-file=" + pki("sa.key"),
		"--service-cluster-ip-range=" + c.ServiceClusterIPRange.String(),
		"--authorization-mode=Node,RBAC",
		"--enable-bootstrap-token-auth=true",
	}
	if c.EtcdServers != "" {
		args = append(args, "--etcd-servers="+c.EtcdServers)
	} else {
		args = append(args, "--data-dir=/var/lib/etcd")
	}
	return Process{"kube-apiserver", append(args, c.verbosity())}
}

// ControllerManager is all controllers; it holds the CA's key, with which it
// answers certificate requests.
func ControllerManager(c Cluster) Process {
	return Process{"kube-controller-manager", []string{
		"--kubeconfig=" + path.Join(Etc, "controller-manager.conf"),
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + c.ClusterCIDR.String(),
		"--node-cidr-mask-size=24",
		"--root-ca-file=" + pki("ca.crt"),
		"--cluster-signing-cert-file=" + pki("ca.crt"),
		"--cluster-signing-key-file=" + pki("ca.key"),
		"--leader-elect=true",
		c.verbosity(),
	}}
}

// Scheduler is the scheduler.
func Scheduler(c Cluster) Process {
	return Process{"kube-scheduler", []string{
		"--kubeconfig=" + path.Join(Etc, "scheduler.conf"),
		"--leader-elect=true",
		c.verbosity(),
	}}
}

// Kubelet is a node's agent; it keeps the pod network too, unless a learner is
// to lay that by hand.
func Kubelet(c Cluster, n Node) Process {
	args := []string{
		"--kubeconfig=" + path.Join(Etc, "kubelet.conf"),
		"--hostname-override=" + n.Name,
		"--node-ip=" + n.IP.String(),
		"--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + path.Join(KubeletPK, "kubelet.crt"),
		"--tls-private-key-file=" + path.Join(KubeletPK, "kubelet.key"),
		"--cluster-dns=" + c.DNSIP().String(),
		"--cluster-domain=" + Domain,
		"--pod-manifest-path=" + path.Join(Etc, "manifests"),
	}
	if c.PodNetwork != "none" {
		args = append(args, "--cluster-cidr="+c.ClusterCIDR.String(), "--pod-network="+c.PodNetwork)
	}
	return Process{"kubelet", append(args, c.verbosity())}
}

// Proxy is a node's service proxy.
func Proxy(c Cluster, n Node) Process {
	return Process{"kube-proxy", []string{
		"--kubeconfig=" + path.Join(Etc, "kube-proxy.conf"),
		"--hostname-override=" + n.Name,
		"--cluster-cidr=" + c.ClusterCIDR.String(),
		"--proxy-mode=" + c.ProxyMode,
		c.verbosity(),
	}}
}

// Nth is the n-th address of a range, 0 being its network address.
func Nth(prefix netip.Prefix, n int) netip.Addr {
	addr := prefix.Masked().Addr()
	for range n {
		addr = addr.Next()
	}
	return addr
}
