package machine

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/podarium/podarium/internal/atomicfile"
	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

// Identities are the keys, certificates and kubeconfigs of one machine, made by
// whoever holds the CA's key: `init` for its own machine, `up` for all nodes of
// a lab. (A machine that joins asks for them instead, see request.go.) What is
// there and good stays; what is missing, was made by another CA, or ends soon is
// made anew.
type Identities struct {
	Root    string // the machine's root folder, "/" or a lab node's
	CA      *pki.CA
	Context string // the name of cluster and context in kubeconfigs
	Server  string // the API server's URL in kubeconfigs
	// RenewBefore is how long before its end a certificate counts as old; 0 is
	// the package's RenewBefore, a month.
	RenewBefore time.Duration

	// Told, when not nil, hears of each file whether it was made just now.
	Told func(path string, made bool)
}

// Client is a user of the API, with a kubeconfig of its own.
type Client struct {
	File   string // under /etc/kubernetes
	User   string
	Groups []string
}

// The clients of the control plane, and the one which is the same on all nodes.
var (
	AdminClient         = Client{"admin.conf", "kubernetes-admin", []string{"kubeadm:cluster-admins"}}
	controlPlaneClients = []Client{
		AdminClient,
		{"controller-manager.conf", "system:kube-controller-manager", nil},
		{"scheduler.conf", "system:kube-scheduler", nil},
	}
	proxyClient = Client{"kube-proxy.conf", "system:kube-proxy", []string{"system:node-proxier"}}
)

func kubeletClient(node string) Client {
	return Client{"kubelet.conf", "system:node:" + node, []string{"system:nodes"}}
}

// EnsureCA loads the cluster's CA, or makes it when there is none. The key is
// written first: a certificate is there only with its key.
func EnsureCA(certFile, keyFile string) (ca *pki.CA, made bool, err error) {
	if _, err := os.Stat(certFile); !errors.Is(err, fs.ErrNotExist) {
		ca, err := pki.LoadCA(certFile, keyFile)
		return ca, false, err
	}
	if ca, err = pki.NewCA("kubernetes"); err != nil {
		return nil, false, err
	}
	if err := atomicfile.Write(keyFile, ca.KeyPEM, 0o600); err != nil {
		return nil, false, err
	}
	return ca, true, atomicfile.Write(certFile, ca.CertPEM, 0o644)
}

// ControlPlane makes what the API server, the controllers and the scheduler
// need. The API server answers to names and addresses of all kinds: those of
// the machine, of the Service kubernetes, and more which somebody may want.
func (i Identities) ControlPlane(cluster components.Cluster, node components.Node, more ...string) error {
	server := pki.Request{
		CommonName: "kube-apiserver", Server: true,
		DNSNames: []string{
			"localhost", node.Name, "kubernetes", "kubernetes.default",
			"kubernetes.default.svc", "kubernetes.default.svc." + components.Domain,
		},
		IPs: pki.IPs(node.IP, cluster.ControlPlane, cluster.KubernetesIP(), netip.MustParseAddr("127.0.0.1")),
	}
	for _, name := range more {
		if ip := net.ParseIP(name); ip != nil {
			server.IPs = append(server.IPs, ip)
		} else {
			server.DNSNames = append(server.DNSNames, name)
		}
	}
	errs := []error{
		i.signingKey(),
		i.file(filepath.Join(components.PKI, "ca.key"), i.CA.KeyPEM, 0o600),
		i.pair(filepath.Join(components.PKI, "apiserver"), server),
		i.pair(filepath.Join(components.PKI, "apiserver-kubelet-client"), pki.Request{
			CommonName: "kube-apiserver-kubelet-client", Organizations: []string{"kubeadm:cluster-admins"}, Client: true,
		}),
	}
	for _, client := range controlPlaneClients {
		errs = append(errs, i.Kubeconfig(filepath.Join(components.Etc, client.File), client))
	}
	return errors.Join(errs...)
}

// Node makes what the kubelet and kube-proxy of a node need.
func (i Identities) Node(node components.Node) error {
	return errors.Join(
		i.file(filepath.Join(components.PKI, "ca.crt"), i.CA.CertPEM, 0o644),
		i.Kubeconfig(filepath.Join(components.Etc, "kubelet.conf"), kubeletClient(node.Name)),
		i.Kubeconfig(filepath.Join(components.Etc, proxyClient.File), proxyClient),
		i.pair(filepath.Join(components.KubeletPK, "kubelet"), servingRequest(node)),
	)
}

// servingRequest is for the kubelet's port 10250: its node's name and address.
func servingRequest(node components.Node) pki.Request {
	client := kubeletClient(node.Name)
	return pki.Request{CommonName: client.User, Organizations: client.Groups, DNSNames: []string{node.Name}, IPs: pki.IPs(node.IP), Server: true}
}

// Kubeconfig makes a client's certificate, and a file with it and all else that
// finds the API server.
func (i Identities) Kubeconfig(path string, client Client) error {
	req := pki.Request{CommonName: client.User, Organizations: client.Groups, Client: true}
	if have, err := clientcmd.LoadFromFile(filepath.Join(i.Root, path)); err == nil {
		context := have.Contexts[have.CurrentContext]
		if context != nil && have.Clusters[context.Cluster] != nil && have.Clusters[context.Cluster].Server == i.Server && have.AuthInfos[context.AuthInfo] != nil &&
			i.current(have.AuthInfos[context.AuthInfo].ClientCertificateData, req) {
			i.told(path, false)
			return nil
		}
	}
	cert, key, err := i.CA.Issue(req)
	if err != nil {
		return err
	}
	data, err := pki.Kubeconfig(i.Context, i.Context+"-"+client.User, i.Server, i.CA.CertPEM, cert, key)
	if err != nil {
		return err
	}
	return i.write(path, data, 0o600)
}

// pair makes path.crt and path.key. A server shows the CA behind its own
// certificate, so that a machine which knows only the CA's hash finds the CA.
func (i Identities) pair(path string, req pki.Request) error {
	if have, err := os.ReadFile(filepath.Join(i.Root, path+".crt")); err == nil && i.current(have, req) && exists(filepath.Join(i.Root, path+".key")) {
		i.told(path+".crt", false)
		return nil
	}
	cert, key, err := i.CA.Issue(req)
	if err != nil {
		return err
	}
	if req.Server {
		cert = slices.Concat(cert, i.CA.CertPEM)
	}
	// A crash between the two leaves a pair that does not fit: no certificate first.
	if err := os.Remove(filepath.Join(i.Root, path+".crt")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old certificate: %w", err)
	}
	if err := atomicfile.Write(filepath.Join(i.Root, path+".key"), key, 0o600); err != nil {
		return err
	}
	return i.write(path+".crt", cert, 0o644)
}

// signingKey makes the pair which signs ServiceAccount tokens. It never ends:
// with another one, all tokens would be void.
func (i Identities) signingKey() error {
	private, public := filepath.Join(components.PKI, "sa.key"), filepath.Join(components.PKI, "sa.pub")
	if exists(filepath.Join(i.Root, public)) && exists(filepath.Join(i.Root, private)) {
		i.told(private, false)
		return nil
	}
	key, pub, err := pki.NewSigningKey()
	if err != nil {
		return err
	}
	if err := i.write(private, key, 0o600); err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(i.Root, public), pub, 0o644)
}

// current tells whether a certificate is this CA's, says what it should, and
// does not end soon.
func (i Identities) current(data []byte, req pki.Request) bool {
	certs, err := pki.ParseCertificates(data)
	authorities, caErr := pki.ParseCertificates(i.CA.CertPEM)
	if err != nil || caErr != nil || certs[0].CheckSignatureFrom(authorities[0]) != nil {
		return false
	}
	cert, margin := certs[0], cmp.Or(i.RenewBefore, RenewBefore)
	return cert.Subject.CommonName == req.CommonName && slices.Equal(cert.Subject.Organization, req.Organizations) &&
		time.Now().Before(cert.NotAfter.Add(-margin)) && covers(cert, req)
}

func covers(cert *x509.Certificate, req pki.Request) bool {
	for _, name := range req.DNSNames {
		if !slices.Contains(cert.DNSNames, name) {
			return false
		}
	}
	for _, ip := range req.IPs {
		if !slices.ContainsFunc(cert.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

// file writes one that has only one right content.
func (i Identities) file(path string, data []byte, mode os.FileMode) error {
	if have, err := os.ReadFile(filepath.Join(i.Root, path)); err == nil && bytes.Equal(have, data) {
		return nil
	}
	return i.write(path, data, mode)
}

func (i Identities) write(path string, data []byte, mode os.FileMode) error {
	if err := atomicfile.Write(filepath.Join(i.Root, path), data, mode); err != nil {
		return err
	}
	i.told(path, true)
	return nil
}

func (i Identities) told(path string, made bool) {
	if i.Told != nil {
		i.Told(path, made)
	}
}
