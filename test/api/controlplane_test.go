package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/podarium/podarium/internal/pki"
)

// controlPlane is a highly available one: three etcd members, and two machines
// cp-1 and cp-2 with an API server, a controller manager and a scheduler each,
// which talk to the API server beside them.
type controlPlane struct {
	t       testing.TB
	dir     string
	ca      *pki.CA // of the cluster
	etcdCA  *pki.CA
	etcds   []*process
	servers []*process
	urls    []string // of the servers
	// endpoints are etcd's.
	endpoints []string
	// by host name, as the leases have it
	managers, schedulers map[string]*process
}

func newControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	c := newServers(t, 3)
	for i, url := range c.urls {
		c.startControllers(fmt.Sprintf("cp-%d", i+1), url)
	}
	return c
}

// newServers is the part without controllers: two API servers on as many etcd
// members.
func newServers(t *testing.T, members int) *controlPlane {
	t.Helper()
	c := &controlPlane{t: t, dir: t.TempDir(), managers: map[string]*process{}, schedulers: map[string]*process{}}
	c.ca, c.etcdCA = c.newCA("kubernetes"), c.newCA("etcd-ca")
	c.file("ca.crt", c.ca.CertPEM)
	c.file("etcd-ca.crt", c.etcdCA.CertPEM)
	c.certificate(c.etcdCA, "etcd-client", pki.Request{CommonName: "kube-apiserver", Client: true})
	signing, public, err := pki.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	c.file("sa.key", signing)
	c.file("sa.pub", public)
	c.startEtcd(members)
	for i, port := range freePorts(t, 2) {
		c.startServer(i+1, port, "--etcd-servers="+strings.Join(c.endpoints, ","), "--etcd-cafile="+c.path("etcd-ca.crt"),
			"--etcd-certfile="+c.path("etcd-client.crt"), "--etcd-keyfile="+c.path("etcd-client.key"))
	}
	for _, url := range c.urls {
		c.waitReady(url)
	}
	return c
}

// startEtcd starts the members.
func (c *controlPlane) startEtcd(members int) {
	ports := freePorts(c.t, 2*members)
	var initial []string
	for i := range members {
		c.endpoints = append(c.endpoints, "https://127.0.0.1:"+ports[i])
		initial = append(initial, fmt.Sprintf("etcd-%d=https://127.0.0.1:%s", i+1, ports[members+i]))
	}
	for i := range members {
		name := fmt.Sprintf("etcd-%d", i+1)
		c.certificate(c.etcdCA, name, pki.Request{CommonName: name, Client: true, Server: true, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
		peer := "https://127.0.0.1:" + ports[members+i]
		c.etcds = append(c.etcds, run(c.t, &process{name: name, path: os.Args[0], env: []string{etcdVariable + "=1"}, args: []string{
			"--name=" + name, "--data-dir=" + filepath.Join(c.dir, name), "--log-level=error",
			"--listen-client-urls=" + c.endpoints[i], "--advertise-client-urls=" + c.endpoints[i],
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=" + strings.Join(initial, ","),
			"--client-cert-auth", "--trusted-ca-file=" + c.path("etcd-ca.crt"), "--cert-file=" + c.path(name+".crt"), "--key-file=" + c.path(name+".key"),
			"--peer-client-cert-auth", "--peer-trusted-ca-file=" + c.path("etcd-ca.crt"), "--peer-cert-file=" + c.path(name+".crt"), "--peer-key-file=" + c.path(name+".key"),
		}}))
	}
}

// startServer starts an API server; etcd says where its etcd is.
func (c *controlPlane) startServer(number int, port string, etcd ...string) {
	name := fmt.Sprintf("apiserver-%d", number)
	c.certificate(c.ca, name, pki.Request{CommonName: "kube-apiserver", Server: true, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}})
	c.urls = append(c.urls, "https://127.0.0.1:"+port)
	c.servers = append(c.servers, run(c.t, &process{name: name, path: podarium(c.t), args: append([]string{
		"apiserver", fmt.Sprintf("--advertise-address=192.168.56.%d", 10+number), "--bind-address=127.0.0.1", "--secure-port=" + port,
		"--tls-cert-file=" + c.path(name+".crt"), "--tls-private-key-file=" + c.path(name+".key"), "--client-ca-file=" + c.path("ca.crt"),
		"--service-account-key-file=" + c.path("sa.pub"), "--service-account-signing-key-file=" + c.path("sa.key"),
	}, etcd...)}))
}

// startControllers starts what works while it holds a lease under its host's name.
func (c *controlPlane) startControllers(host, url string) {
	c.startManager(host, url)
	c.schedulers[host] = run(c.t, &process{name: "scheduler on " + host, host: host, path: podarium(c.t), args: []string{
		"scheduler", "--kubeconfig=" + c.kubeconfig(host, "system:kube-scheduler", url), "--secure-port=0",
	}})
}

func (c *controlPlane) startManager(host, url string, flags ...string) {
	c.managers[host] = run(c.t, &process{name: "controller-manager on " + host, host: host, path: podarium(c.t), args: append([]string{
		"controller-manager", "--kubeconfig=" + c.kubeconfig(host, "system:kube-controller-manager", url), "--secure-port=0", "--root-ca-file=" + c.path("ca.crt"),
	}, flags...)})
}

func (c *controlPlane) kubeconfig(host, user, url string) (file string) {
	cert, key := c.issue(c.ca, pki.Request{CommonName: user, Client: true})
	data, err := pki.Kubeconfig("podarium", user, url, c.ca.CertPEM, cert, key)
	if err != nil {
		c.t.Fatal(err)
	}
	return c.file(host+"-"+strings.ReplaceAll(user, ":", "-")+".conf", data)
}

// waitReady waits for a server; it watches etcd through a quorum by then.
func (c *controlPlane) waitReady(url string) {
	c.t.Helper()
	client := c.client(url)
	c.eventually(time.Minute, url+" is ready", func(ctx context.Context) bool {
		code := 0
		client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).StatusCode(&code)
		return code == http.StatusOK
	})
}

// eventually asks again and again, for what no watch tells.
func (c *controlPlane) eventually(within time.Duration, what string, ok func(ctx context.Context) bool) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for !ok(ctx) {
		select {
		case <-ctx.Done():
			c.t.Fatalf("not within %v: %s", within, what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// client is an administrator's.
func (c *controlPlane) client(url string) kubernetes.Interface {
	c.t.Helper()
	return c.clientWith(url, func(*rest.Config) {})
}

func (c *controlPlane) clientWith(url string, change func(*rest.Config)) kubernetes.Interface {
	c.t.Helper()
	cert, key := c.issue(c.ca, pki.Request{CommonName: "kubernetes-admin", Organizations: []string{"kubeadm:cluster-admins"}, Client: true})
	cfg := &rest.Config{
		Host: url, QPS: -1, WarningHandler: rest.NoWarnings{},
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.CertPEM, CertData: cert, KeyData: key},
	}
	change(cfg)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

func (c *controlPlane) newCA(name string) *pki.CA {
	c.t.Helper()
	ca, err := pki.NewCA(name)
	if err != nil {
		c.t.Fatal(err)
	}
	return ca
}

func (c *controlPlane) issue(ca *pki.CA, request pki.Request) (cert, key []byte) {
	c.t.Helper()
	cert, key, err := ca.Issue(request)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert, key
}

func (c *controlPlane) certificate(ca *pki.CA, name string, request pki.Request) {
	c.t.Helper()
	cert, key := c.issue(ca, request)
	c.file(name+".crt", cert)
	c.file(name+".key", key)
}

func (c *controlPlane) path(name string) string { return filepath.Join(c.dir, name) }

func (c *controlPlane) file(name string, data []byte) string {
	c.t.Helper()
	if err := os.WriteFile(c.path(name), data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return c.path(name)
}
