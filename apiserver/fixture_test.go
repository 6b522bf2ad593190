package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/podarium/podarium/internal/pki"
)

// cluster is an API server with a real etcd in a temporary directory, on a
// free port of 127.0.0.1. It takes 0.3 s to start.
type cluster struct {
	t    *testing.T
	dir  string
	ca   *pki.CA
	url  string
	cfg  Config
	stop func() error
}

// startServer starts a cluster and stops it when the test ends.
func startServer(t *testing.T, change ...func(*Config)) *cluster {
	t.Helper()
	dir := t.TempDir()
	c := &cluster{t: t, dir: dir}
	var err error
	if c.ca, err = pki.NewCA("kubernetes"); err != nil {
		t.Fatal(err)
	}
	cert, key, err := c.ca.Issue(pki.Request{CommonName: "kube-apiserver", Server: true, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	signing, public, err := pki.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	c.cfg = testConfig()
	c.cfg.TLSCertFile, c.cfg.TLSKeyFile = c.write("apiserver.crt", cert), c.write("apiserver.key", key)
	c.cfg.ClientCAFile, c.cfg.DataDir = c.write("ca.crt", c.ca.CertPEM), filepath.Join(dir, "etcd")
	c.cfg.ServiceAccountKeyFiles, c.cfg.ServiceAccountSigningKeyFile = []string{c.write("sa.pub", public)}, c.write("sa.key", signing)
	for _, f := range change {
		f(&c.cfg)
	}
	c.start()
	t.Cleanup(func() { c.stop() })
	return c
}

// testConfig is a Config without files.
func testConfig() Config {
	return Config{
		AdvertiseAddress: netip.MustParseAddr("192.168.56.11"), BindAddress: "127.0.0.1",
		ServiceClusterIPRange: netip.MustParsePrefix("10.96.0.0/12"), NodePortMin: 30000, NodePortMax: 32767,
		ServiceAccountIssuer: "https://kubernetes.default.svc.cluster.local",
	}
}

// start runs the server until it is ready; stop ends it. A cluster can be
// started again on the same data.
func (c *cluster) start() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listening := make(chan net.Addr, 1)
	done := make(chan error, 1)
	c.cfg.Listening = func(a net.Addr) { listening <- a }
	go func() { done <- Run(ctx, c.cfg) }()
	stopped := false
	c.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	select {
	case a := <-listening:
		c.url = "https://" + a.String()
	case err := <-done:
		c.t.Fatalf("server ended: %v", err)
	}
	c.waitReady()
}

func (c *cluster) waitReady() {
	c.t.Helper()
	client := c.http("", nil)
	deadline := time.Now().Add(10 * time.Second)
	for {
		resp, err := client.Get(c.url + "/readyz")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("server is not ready: %v", err)
		}
	}
}

func (c *cluster) write(name string, data []byte) string {
	c.t.Helper()
	file := filepath.Join(c.dir, name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return file
}

// http is a client with a certificate for user, or without one.
func (c *cluster) http(user string, groups []string) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.ca.CertPEM)
	cfg := &tls.Config{RootCAs: pool}
	if user != "" {
		cert, key := c.identity(user, groups)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			c.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: cfg, ForceAttemptHTTP2: true}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (c *cluster) identity(user string, groups []string) (cert, key []byte) {
	c.t.Helper()
	cert, key, err := c.ca.Issue(pki.Request{CommonName: user, Organizations: groups, Client: true})
	if err != nil {
		c.t.Fatal(err)
	}
	return cert, key
}

// config is a client-go config for a user.
func (c *cluster) config(user string, groups ...string) *rest.Config {
	cert, key := c.identity(user, groups)
	return &rest.Config{
		Host: c.url, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.CertPEM, CertData: cert, KeyData: key},
	}
}

// admin is a client that may do everything.
func (c *cluster) admin() kubernetes.Interface {
	client, err := kubernetes.NewForConfig(c.config("kubernetes-admin", "kubeadm:cluster-admins"))
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// kubeconfig writes a file for kubectl.
func (c *cluster) kubeconfig(user string, groups ...string) string {
	cert, key := c.identity(user, groups)
	return c.write(fmt.Sprintf("%s.conf", user), kubeconfigFor(c, user, cert, key))
}

func kubeconfigFor(c *cluster, user string, cert, key []byte) []byte {
	data, err := pki.Kubeconfig("podarium", user, c.url, c.ca.CertPEM, cert, key)
	if err != nil {
		c.t.Fatal(err)
	}
	return data
}
