package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/certificate"
	"k8s.io/client-go/util/certificate/csr"

	"github.com/podarium/podarium/internal/atomicfile"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

// joiner is a machine on its way into a cluster.
type joiner struct {
	*Machine
	root    string // "/", or a folder in tests
	server  string // https://192.168.56.11:6443
	caPEM   []byte
	node    components.Node
	context string

	renewBefore time.Duration // see Identities
}

// withToken is a client by the bootstrap token.
func (j *joiner) withToken(token string) (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: j.server, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAData: j.caPEM}, UserAgent: "podarium/" + kube.Version,
	})
	if err != nil {
		return nil, fmt.Errorf("make client for %s: %w", j.server, err)
	}
	return client, nil
}

// becomeKubelet asks for the kubelet's certificate and writes it where kubeadm
// has it: kubelet-client-current.pem, which kubelet.conf names, so that the
// next certificate needs no new kubeconfig.
func (j *joiner) becomeKubelet(ctx context.Context, byToken kubernetes.Interface) error {
	if j.kubeletWorks(ctx) {
		j.say("tls-bootstrap", "there already: certificate of %s", kubeletClient(j.node.Name).User)
		return nil
	}
	id := kubeletClient(j.node.Name)
	certPEM, keyPEM, err := j.request(ctx, byToken, certificatesv1.KubeAPIServerClientKubeletSignerName,
		pki.Request{CommonName: id.User, Organizations: id.Groups}, certificatesv1.UsageClientAuth)
	if err != nil {
		return err
	}
	dir := filepath.Join(j.root, components.KubeletPK)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	store, err := certificate.NewFileStore("kubelet-client", dir, dir, "", "")
	if err != nil {
		return fmt.Errorf("open certificates in %s: %w", dir, err)
	}
	if _, err := store.Update(certPEM, keyPEM); err != nil {
		return fmt.Errorf("write certificate of kubelet: %w", err)
	}
	config, err := pki.KubeconfigWithFile(j.context, j.context+"-"+id.User, j.server, j.caPEM, store.CurrentPath())
	if err != nil {
		return err
	}
	j.restart["kubelet"] = true
	return atomicfile.Write(j.kubeletConf(), config, 0o600)
}

func (j *joiner) kubeletConf() string { return filepath.Join(j.root, components.Etc, "kubelet.conf") }

// kubeletWorks: an earlier run, or rotation, has left an identity which the
// cluster knows.
func (j *joiner) kubeletWorks(ctx context.Context) bool {
	client, err := j.asKubelet()
	if err != nil {
		return false
	}
	_, err = client.CoreV1().Nodes().Get(ctx, j.node.Name, metav1.GetOptions{})
	return err == nil || apierrors.IsNotFound(err)
}

func (j *joiner) asKubelet() (kubernetes.Interface, error) {
	config, err := clientcmd.LoadFromFile(j.kubeletConf())
	if err != nil {
		return nil, fmt.Errorf("read kubelet.conf: %w", err)
	}
	if c := config.Clusters[j.context]; c == nil || c.Server != j.server || string(c.CertificateAuthorityData) != string(j.caPEM) {
		return nil, fmt.Errorf("%s is of another cluster", j.kubeletConf())
	}
	return kube.Client(j.kubeletConf(), "podarium")
}

// nodeCertificates asks, as the kubelet, for the certificate of the kubelet's
// port and for kube-proxy's.
func (j *joiner) nodeCertificates(ctx context.Context, asKubelet kubernetes.Interface) error {
	serving, key := filepath.Join(j.root, components.KubeletPK, "kubelet.crt"), filepath.Join(j.root, components.KubeletPK, "kubelet.key")
	if j.holds(serving, servingRequest(j.node)) && exists(key) {
		j.say("tls-bootstrap", "there already: %s", serving)
	} else {
		certPEM, keyPEM, err := j.request(ctx, asKubelet, certificatesv1.KubeletServingSignerName, servingRequest(j.node), certificatesv1.UsageServerAuth)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(key, keyPEM, 0o600); err != nil {
			return err
		}
		if err := atomicfile.Write(serving, certPEM, 0o644); err != nil {
			return err
		}
		j.restart["kubelet"] = true
	}
	return j.proxyIdentity(ctx, asKubelet)
}

func (j *joiner) proxyIdentity(ctx context.Context, asKubelet kubernetes.Interface) error {
	path := filepath.Join(j.root, components.Etc, proxyClient.File)
	req := pki.Request{CommonName: proxyClient.User, Organizations: proxyClient.Groups}
	if have, err := clientcmd.LoadFromFile(path); err == nil && have.Clusters[j.context] != nil && have.Clusters[j.context].Server == j.server {
		for _, user := range have.AuthInfos {
			if j.signed(user.ClientCertificateData, req) {
				j.say("tls-bootstrap", "there already: %s", path)
				return nil
			}
		}
	}
	certPEM, keyPEM, err := j.request(ctx, asKubelet, certificatesv1.KubeAPIServerClientSignerName, req, certificatesv1.UsageClientAuth)
	if err != nil {
		return err
	}
	config, err := pki.Kubeconfig(j.context, j.context+"-"+proxyClient.User, j.server, j.caPEM, certPEM, keyPEM)
	if err != nil {
		return err
	}
	j.restart["kube-proxy"] = true
	return atomicfile.Write(path, config, 0o600)
}

func (j *joiner) holds(path string, req pki.Request) bool {
	data, err := os.ReadFile(path)
	return err == nil && j.signed(data, req)
}

// signed tells whether a certificate is still good, see Identities.current.
func (j *joiner) signed(data []byte, req pki.Request) bool {
	return Identities{CA: &pki.CA{CertPEM: j.caPEM}, RenewBefore: j.renewBefore}.current(data, req)
}

// request sends a certificate request and waits for its answer. The key is made
// here and stays here.
func (j *joiner) request(ctx context.Context, client kubernetes.Interface, signer string, req pki.Request, purpose certificatesv1.KeyUsage) (certPEM, keyPEM []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	data, keyPEM, err := pki.NewRequest(req)
	if err != nil {
		return nil, nil, err
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		return nil, nil, err
	}
	name, uid, err := csr.RequestCertificateWithContext(ctx, client, data, "", signer, nil, []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, purpose}, key)
	if err != nil {
		return nil, nil, tokenError(fmt.Errorf("ask for a certificate for %s: %w", req.CommonName, err))
	}
	j.say("tls-bootstrap", "%s asks for a certificate for %s (kubectl get csr %s)", signer, req.CommonName, name)
	certPEM, err = csr.WaitForCertificate(ctx, client, name, uid)
	if err != nil {
		return nil, nil, fmt.Errorf("wait for the certificate for %s (is kube-controller-manager running? else: kubectl certificate approve %s): %w", req.CommonName, name, err)
	}
	return certPEM, keyPEM, nil
}

// tokenError explains "Unauthorized", which says nothing to whoever has typed a
// token.
func tokenError(err error) error {
	if apierrors.IsUnauthorized(err) {
		return fmt.Errorf("the token is unknown to this cluster, or has expired: make another on the control plane with podarium token create --print-join-command (%w)", err)
	}
	return err
}
