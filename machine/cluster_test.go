package machine

import (
	"context"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/apiserver"
	"github.com/podarium/podarium/controllers"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

// cluster is a control plane as init makes it, in a folder instead of a machine:
// its certificates and kubeconfigs, a real API server on a free port of
// 127.0.0.1, and the controllers which answer certificate requests.
type cluster struct {
	root    string
	ca      *pki.CA
	address netip.AddrPort
	admin   kubernetes.Interface
	plan    components.Cluster
	node    components.Node
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{root: t.TempDir(), node: components.Node{Name: "node-1", IP: netip.MustParseAddr("127.0.0.1")}}
	c.plan = components.Cluster{
		ControlPlane: c.node.IP, ClusterCIDR: netip.MustParsePrefix("10.244.0.0/16"), ServiceClusterIPRange: netip.MustParsePrefix("10.96.0.0/12"),
		ProxyMode: "iptables", PodNetwork: "host-gw",
	}
	var err error
	if c.ca, _, err = EnsureCA(c.path(components.PKI, "ca.crt"), c.path(components.PKI, "ca.key")); err != nil {
		t.Fatal(err)
	}
	if err := c.identities("https://127.0.0.1:6443").ControlPlane(c.plan, c.node); err != nil {
		t.Fatal(err)
	}
	c.run(t)
	if err := c.identities("https://"+c.address.String()).ControlPlane(c.plan, c.node); err != nil {
		t.Fatal(err)
	}
	if c.admin, err = kube.Client(c.path(AdminConf), "test"); err != nil {
		t.Fatal(err)
	}
	ready, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := kube.WaitReady(ready, c.admin); err != nil {
		t.Fatal(err)
	}
	c.control(t)
	if err := uploadConfig(t.Context(), c.admin, c.plan); err != nil {
		t.Fatal(err)
	}
	if err := ApplyJoining(t.Context(), c.admin); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.root}, parts...)...)
}

func (c *cluster) identities(server string) Identities {
	return Identities{Root: c.root, CA: c.ca, Context: contextName, Server: server}
}

// run starts the API server with the files that init has made.
func (c *cluster) run(t *testing.T) {
	t.Helper()
	listening, done := make(chan net.Addr, 1), make(chan error, 1)
	pki := func(name string) string { return c.path(components.PKI, name) }
	cfg := apiserver.Config{
		AdvertiseAddress: netip.MustParseAddr("192.168.56.11"), BindAddress: "127.0.0.1",
		TLSCertFile: pki("apiserver.crt"), TLSKeyFile: pki("apiserver.key"), ClientCAFile: pki("ca.crt"), DataDir: c.path("etcd"),
		ServiceClusterIPRange: c.plan.ServiceClusterIPRange, NodePortMin: 30000, NodePortMax: 32767,
		ServiceAccountIssuer: "https://kubernetes.default.svc.cluster.local", ServiceAccountKeyFiles: []string{pki("sa.pub")},
		ServiceAccountSigningKeyFile: pki("sa.key"), EnableBootstrapTokens: true,
		Listening: func(a net.Addr) { listening <- a },
	}
	background(t, done, func(ctx context.Context) error { return apiserver.Run(ctx, cfg) })
	select {
	case a := <-listening:
		c.address = netip.MustParseAddrPort(a.String())
	case err := <-done:
		t.Fatalf("API server ended: %v", err)
	}
}

// control runs the controllers by which machines join.
func (c *cluster) control(t *testing.T) {
	t.Helper()
	api, err := kube.Config(c.path(components.Etc, "controller-manager.conf"), "test")
	if err != nil {
		t.Fatal(err)
	}
	cfg := controllers.Config{API: api, SigningCA: c.ca, SigningDuration: time.Hour * 24 * 365, NodeMonitorGracePeriod: time.Minute, Controllers: []string{
		"certificatesigningrequest-approving-controller", "certificatesigningrequest-signing-controller", "token-cleaner-controller",
	}}
	background(t, make(chan error, 1), func(ctx context.Context) error { return controllers.Run(ctx, cfg) })
}

// background runs something until the test has ended.
func background(t *testing.T, done chan error, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- run(ctx); close(done) }()
	t.Cleanup(func() {
		cancel()
		for range done {
		}
	})
}

// joiner is another machine, in a folder too.
func (c *cluster) joiner(t *testing.T, node components.Node) *joiner {
	t.Helper()
	return &joiner{
		Machine: New(io.Discard), root: t.TempDir(), server: "https://" + c.address.String(), caPEM: c.ca.CertPEM, node: node, context: contextName,
	}
}

func (c *cluster) token(t *testing.T, token Token) string {
	t.Helper()
	made, err := CreateToken(t.Context(), c.admin, token)
	if err != nil {
		t.Fatal(err)
	}
	return made.Value
}
