package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/lab/world"
)

// identity is a client of the API server: who it is, and where its kubeconfig
// lies on its node, as kubeadm lays it out.
type identity struct {
	file   string // under /etc/kubernetes
	user   string
	groups []string
}

// The identities of the control plane and of every node.
var (
	controlPlaneIdentities = []identity{
		{"admin.conf", "kubernetes-admin", []string{"kubeadm:cluster-admins"}},
		{"controller-manager.conf", "system:kube-controller-manager", nil},
		{"scheduler.conf", "system:kube-scheduler", nil},
	}
	proxyIdentity = identity{"kube-proxy.conf", "system:kube-proxy", []string{"system:node-proxier"}}
)

func kubeletIdentity(node string) identity {
	return identity{"kubelet.conf", "system:node:" + node, []string{"system:nodes"}}
}

// writeIdentities makes the cluster's CA once, and from it everything a node
// needs to know and to be known. On a lab that was up before, nothing is made
// again: its tokens and certificates stay valid.
func writeIdentities(cfg world.Config) error {
	caCert, caKey := cfg.Path("pki", "ca.crt"), cfg.Path("pki", "ca.key")
	if _, err := os.Stat(cfg.Path("pki", "complete")); err == nil {
		if _, err := pki.LoadCA(caCert, caKey); err != nil {
			return world.Damaged(cfg.Name, cfg.Path("pki"), err)
		}
		return nil
	}
	ca, err := pki.NewCA("kubernetes")
	if err != nil {
		return err
	}
	errs := []error{
		world.WriteFile(caCert, ca.CertPEM, 0o644),
		world.WriteFile(caKey, ca.KeyPEM, 0o600),
		writeControlPlane(cfg, ca),
	}
	for n := 1; n <= cfg.Nodes; n++ {
		errs = append(errs, writeNode(cfg, ca, n))
	}
	errs = append(errs, writeAdmin(cfg, ca))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("write identities: %w", err)
	}
	return world.WriteFile(cfg.Path("pki", "complete"), nil, 0o644)
}

// writeControlPlane fills node-1's /etc/kubernetes/pki and the kubeconfigs of
// the processes which only it runs.
func writeControlPlane(cfg world.Config, ca *pki.CA) error {
	signKey, signPublic, err := pki.NewSigningKey()
	if err != nil {
		return err
	}
	pkiDir := cfg.NodePath(1, "etc", "kubernetes", "pki")
	errs := []error{
		world.WriteFile(filepath.Join(pkiDir, "ca.key"), ca.KeyPEM, 0o600),
		world.WriteFile(filepath.Join(pkiDir, "sa.key"), signKey, 0o600),
		world.WriteFile(filepath.Join(pkiDir, "sa.pub"), signPublic, 0o644),
		issue(ca, pki.Request{
			CommonName: "kube-apiserver",
			Server:     true,
			DNSNames: []string{
				"localhost", world.NodeName(1), "kubernetes", "kubernetes.default",
				"kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			},
			IPs: ips(cfg.NodeIP(1), cfg.KubernetesIP(), netip.MustParseAddr("127.0.0.1")),
		}, filepath.Join(pkiDir, "apiserver")),
		issue(ca, pki.Request{
			CommonName:    "kube-apiserver-kubelet-client",
			Organizations: []string{"kubeadm:cluster-admins"},
			Client:        true,
		}, filepath.Join(pkiDir, "apiserver-kubelet-client")),
	}
	for _, id := range controlPlaneIdentities {
		errs = append(errs, writeKubeconfig(cfg, ca, id, cfg.NodePath(1, "etc", "kubernetes", id.file), cfg.ServerURL()))
	}
	return errors.Join(errs...)
}

// writeNode fills what every node's /etc/kubernetes and kubelet folder hold.
func writeNode(cfg world.Config, ca *pki.CA, number int) error {
	etc := cfg.NodePath(number, "etc", "kubernetes")
	name := world.NodeName(number)
	return errors.Join(
		world.WriteFile(filepath.Join(etc, "pki", "ca.crt"), ca.CertPEM, 0o644),
		writeKubeconfig(cfg, ca, kubeletIdentity(name), filepath.Join(etc, "kubelet.conf"), cfg.ServerURL()),
		writeKubeconfig(cfg, ca, proxyIdentity, filepath.Join(etc, "kube-proxy.conf"), cfg.ServerURL()),
		issue(ca, pki.Request{
			CommonName:    "system:node:" + name,
			Organizations: []string{"system:nodes"},
			DNSNames:      []string{name},
			IPs:           ips(cfg.NodeIP(number)),
			Server:        true,
		}, cfg.NodePath(number, "var", "lib", "kubelet", "pki", "kubelet")),
	)
}

// writeAdmin writes the administrator's kubeconfig for the machine's side,
// where the API server is at 127.0.0.1.
func writeAdmin(cfg world.Config, ca *pki.CA) error {
	return writeKubeconfig(cfg, ca, controlPlaneIdentities[0], cfg.AdminKubeconfig(), cfg.HostURL())
}

func writeKubeconfig(cfg world.Config, ca *pki.CA, id identity, path, server string) error {
	cert, key, err := ca.Issue(pki.Request{CommonName: id.user, Organizations: id.groups, Client: true})
	if err != nil {
		return err
	}
	data, err := pki.Kubeconfig(cfg.Context(), cfg.Context()+"-"+id.user, server, ca.CertPEM, cert, key)
	if err != nil {
		return err
	}
	return world.WriteFile(path, data, 0o600)
}

// issue writes path.crt and path.key.
func issue(ca *pki.CA, req pki.Request, path string) error {
	cert, key, err := ca.Issue(req)
	if err != nil {
		return err
	}
	return errors.Join(world.WriteFile(path+".crt", cert, 0o644), world.WriteFile(path+".key", key, 0o600))
}

func ips(addrs ...netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		out = append(out, a.AsSlice())
	}
	return out
}
