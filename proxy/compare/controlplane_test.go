//go:build kubeproxy

package compare

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/internal/netns/nstest"
	"github.com/podarium/podarium/internal/pki"
)

// controlPlane is an API server in a network namespace of its own, which listens
// on 127.0.0.1 of other namespaces too: sockets are handed over to it, as
// systemd would.
type controlPlane struct {
	t          *testing.T
	dir        string
	ca         *pki.CA
	kubeconfig string // of a kube-proxy, for every namespace
	client     kubernetes.Interface
	etcd       *clientv3.Client
}

const apiAddress = "127.0.0.1:6443"

func startControlPlane(t *testing.T, heardFrom []*nstest.Host) *controlPlane {
	t.Helper()
	p := &controlPlane{t: t, dir: t.TempDir()}
	var err error
	if p.ca, err = pki.NewCA("kubernetes"); err != nil {
		t.Fatal(err)
	}
	own := nstest.New(t)
	server := p.startServer(own, heardFrom)
	cert, key := p.issue(pki.Request{CommonName: "system:kube-proxy", Client: true})
	text, err := pki.Kubeconfig("podarium", "system:kube-proxy", "https://"+apiAddress, p.ca.CertPEM, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	p.kubeconfig = p.file("kubeconfig", text)
	p.connect(own, server)
	p.makeNodes()
	return p
}

func (p *controlPlane) startServer(own *nstest.Host, heardFrom []*nstest.Host) *program {
	p.t.Helper()
	signing, public, err := pki.NewSigningKey()
	if err != nil {
		p.t.Fatal(err)
	}
	cert, key := p.issue(pki.Request{CommonName: "kube-apiserver", Server: true, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	var sockets []*os.File
	for _, host := range heardFrom {
		listener, err := netns.Listen(p.t.Context(), host.Path(), apiAddress)
		if err != nil {
			p.t.Fatal(err)
		}
		defer listener.Close()
		socket, err := listener.(*net.TCPListener).File()
		if err != nil {
			p.t.Fatal(err)
		}
		defer socket.Close()
		sockets = append(sockets, socket)
	}
	return start(p.t, &program{
		name: "kube-apiserver", host: own, path: podarium, sockets: sockets,
		args: []string{
			"apiserver", "--advertise-address=192.168.56.11", "--bind-address=127.0.0.1", "--data-dir=" + filepath.Join(p.dir, "etcd"),
			"--tls-cert-file=" + p.file("server.crt", cert), "--tls-private-key-file=" + p.file("server.key", key), "--client-ca-file=" + p.file("ca.crt", p.ca.CertPEM),
			"--service-account-key-file=" + p.file("sa.pub", public), "--service-account-signing-key-file=" + p.file("sa.key", signing),
		},
	})
}

// connect waits for the server; it is an administrator from then on.
func (p *controlPlane) connect(own *nstest.Host, server *program) {
	p.t.Helper()
	cert, key := p.issue(pki.Request{CommonName: "kubernetes-admin", Organizations: []string{"kubeadm:cluster-admins"}, Client: true})
	var err error
	p.client, err = kubernetes.NewForConfig(&rest.Config{
		Host: "https://" + apiAddress, QPS: -1, WarningHandler: rest.NoWarnings{},
		TLSClientConfig: rest.TLSClientConfig{CAData: p.ca.CertPEM, CertData: cert, KeyData: key},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return netns.Dial(ctx, own.Path(), network, address)
		},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	if !within(2*time.Minute, func() bool {
		code := 0
		p.client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(p.t.Context()).StatusCode(&code)
		return code == http.StatusOK
	}) {
		p.t.Fatal(server.said())
	}
	if p.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + filepath.Join(p.dir, "etcd", "etcd.sock")}, Logger: zap.NewNop()}); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { p.etcd.Close() })
}

// makeNodes makes node-1 to node-3 and the namespaces.
func (p *controlPlane) makeNodes() {
	p.t.Helper()
	ctx := p.t.Context()
	for i := range 3 {
		name, cidr := fmt.Sprintf("node-%d", i+1), fmt.Sprintf("10.244.%d.0/24", i+1)
		node := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name, corev1.LabelTopologyZone: fmt.Sprintf("z%d", i+1)}},
			Spec:       corev1.NodeSpec{PodCIDR: cidr, PodCIDRs: []string{cidr, fmt.Sprintf("fd00:10:244:%d::/64", i+1)}},
		}
		made, err := p.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
		if err != nil {
			p.t.Fatal(err)
		}
		for _, ip := range []string{fmt.Sprintf("192.168.56.%d", 11+i), fmt.Sprintf("fd00:56::%d", 11+i)} {
			made.Status.Addresses = append(made.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
		}
		if _, err := p.client.CoreV1().Nodes().UpdateStatus(ctx, made, metav1.UpdateOptions{}); err != nil {
			p.t.Fatal(err)
		}
	}
	for _, name := range []string{"other", markNamespace} {
		if _, err := p.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			p.t.Fatal(err)
		}
	}
}

func (p *controlPlane) issue(request pki.Request) (cert, key []byte) {
	p.t.Helper()
	cert, key, err := p.ca.Issue(request)
	if err != nil {
		p.t.Fatal(err)
	}
	return cert, key
}

func (p *controlPlane) file(name string, data []byte) (path string) {
	p.t.Helper()
	path = filepath.Join(p.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}
