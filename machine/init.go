package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

// InitConfig is what can be chosen about a new cluster.
type InitConfig struct {
	Cluster components.Cluster // ControlPlane may be left open: then NodeIP, or the address of the default route
	Node    components.Node    // may be left open: the host name; ControlPlane's address
	// ExtraSANs are further names and addresses by which people reach the API server.
	ExtraSANs []string
	Token     Token
	// IgnoreErrors are checks whose answer does not matter.
	IgnoreErrors []string
}

// contextName is the name of cluster and context in kubeconfigs.
const contextName = "kubernetes"

// AdminConf is the administrator's kubeconfig on the control plane.
const AdminConf = components.Etc + "/admin.conf"

// Init makes this machine the control plane of a cluster and its first node, and
// returns the words that make another machine join. See the package comment for
// the steps.
func (m *Machine) Init(ctx context.Context, cfg InitConfig) (joinCommand string, err error) {
	if err := cfg.complete(); err != nil {
		return "", err
	}
	old, err := loadState()
	if old != nil && cfg.ExtraSANs == nil {
		cfg.ExtraSANs = old.ExtraSANs // once said, they stay
	}
	want := state{ControlPlane: true, Cluster: cfg.Cluster, Node: cfg.Node, ExtraSANs: cfg.ExtraSANs, Before: lookBefore()}
	if err := errors.Join(err, old.sameCluster(want), validCluster(cfg.Cluster)); err != nil {
		return "", err
	}
	checks := nodeChecks(cfg.Cluster, cfg.Node)
	for unit, ports := range controlPlanePorts {
		checks = append(checks, portChecks(unit, ports)...)
	}
	if err := m.admit(old, want, checks, cfg.IgnoreErrors); err != nil {
		return "", err
	}
	ca, err := m.makeControlPlane(cfg)
	if err != nil {
		return "", err
	}
	client, err := m.waitControlPlane(ctx)
	if err != nil {
		return "", err
	}
	token, err := CreateToken(ctx, client, cfg.Token)
	if err != nil {
		return "", err
	}
	m.say("bootstrap-token", "%s, for %s", token.ID(), cfg.Token.lifeText())
	if err := m.furnish(ctx, client, cfg); err != nil {
		return "", err
	}
	return JoinCommand(cfg.Cluster, token, ca.Hash()), nil
}

// complete fills in what was left open.
func (cfg *InitConfig) complete() (err error) {
	if !cfg.Cluster.ControlPlane.IsValid() {
		cfg.Cluster.ControlPlane = cfg.Node.IP
	}
	if !cfg.Cluster.ControlPlane.IsValid() {
		if cfg.Cluster.ControlPlane, err = addressTowards(netip.MustParseAddr("192.0.2.1")); err != nil {
			return fmt.Errorf("find this machine's address: %w; say it with --apiserver-advertise-address", err)
		}
	}
	if !cfg.Node.IP.IsValid() {
		cfg.Node.IP = cfg.Cluster.ControlPlane
	}
	return completeName(&cfg.Node)
}

func completeName(node *components.Node) error {
	if node.Name != "" {
		return nil
	}
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("read host name: %w; say it with --node-name", err)
	}
	node.Name = strings.ToLower(name)
	return nil
}

// addressTowards is the address with which this machine would send to another.
// Nothing is sent: connecting a UDP socket only asks the routing table.
func addressTowards(other netip.Addr) (netip.Addr, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(other, 9)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find the way to %s: %w", other, err)
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// makeControlPlane does all that needs no API server yet.
func (m *Machine) makeControlPlane(cfg InitConfig) (*pki.CA, error) {
	if err := m.prepareKernel(cfg.Cluster); err != nil {
		return nil, err
	}
	if err := m.installPrograms(); err != nil {
		return nil, err
	}
	ca, made, err := EnsureCA(filepath.Join(components.PKI, "ca.crt"), filepath.Join(components.PKI, "ca.key"))
	if err != nil {
		return nil, err
	}
	m.found("certs", made, "%s/ca.crt, the cluster's CA (%s)", components.PKI, ca.Hash())
	identities := Identities{Root: "/", CA: ca, Context: contextName, Server: cfg.Cluster.ServerURL(), Told: m.toldFile}
	if err := errors.Join(identities.ControlPlane(cfg.Cluster, cfg.Node, cfg.ExtraSANs...), identities.Node(cfg.Node)); err != nil {
		return nil, fmt.Errorf("write certificates: %w", err)
	}
	if err := m.makeImages(); err != nil {
		return nil, err
	}
	return ca, m.startUnits(units(cfg.Cluster, cfg.Node, true, kubeletExtra()))
}

// toldFile says which file was made, and that whoever reads it has to start anew.
func (m *Machine) toldFile(path string, made bool) {
	phase := "kubeconfig"
	if strings.HasSuffix(path, ".crt") || strings.HasSuffix(path, ".key") {
		phase = "certs"
	}
	m.found(phase, made, "%s", path)
	if !made {
		return
	}
	for file, component := range map[string]string{
		"apiserver": "kube-apiserver", "sa.": "kube-apiserver", "ca.": "kube-controller-manager", "controller-manager.conf": "kube-controller-manager",
		"scheduler.conf": "kube-scheduler", "kubelet.": "kubelet", "kube-proxy.conf": "kube-proxy",
	} {
		if strings.HasPrefix(filepath.Base(path), file) {
			m.restart[component] = true
		}
	}
}

// imagesDir is the kubelet's own default for --image-root.
const imagesDir = "/var/lib/podarium/images"

// makeImages makes them from the programs as they are now.
func (m *Machine) makeImages() error {
	if err := MakeImages(imagesDir, programsDir); err != nil {
		return err
	}
	m.say("images", "%s, %s, %s", PodariumImage, SimpleserviceImage, BusyboxImage)
	return nil
}

// resolvedConf is where systemd-resolved tells the real resolvers; the usual
// file names only its own 127.0.0.53, which no pod can reach.
const resolvedConf = "/run/systemd/resolve/resolv.conf"

func kubeletExtra() []string {
	if exists(resolvedConf) {
		return []string{"--resolv-conf=" + resolvedConf}
	}
	return nil
}

// waitControlPlane waits for the API server, and says what it says when it does
// not come.
func (m *Machine) waitControlPlane(ctx context.Context) (kubernetes.Interface, error) {
	client, err := kube.Client(AdminConf, "podarium")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	if err := kube.WaitReady(ctx, client); err != nil {
		return nil, fmt.Errorf("%w; see journalctl -u kube-apiserver", err)
	}
	m.say("wait-control-plane", "the API server is ready (%s)", time.Since(began).Round(100*time.Millisecond))
	return client, nil
}

// furnish makes the objects which a cluster has from its first day.
func (m *Machine) furnish(ctx context.Context, client kubernetes.Interface, cfg InitConfig) error {
	if err := uploadConfig(ctx, client, cfg.Cluster); err != nil {
		return err
	}
	m.say("upload-config", "ConfigMap %s/%s, for machines that join", metav1.NamespaceSystem, configName)
	if err := ApplyJoining(ctx, client); err != nil {
		return err
	}
	if cfg.Cluster.PodNetwork != "none" {
		if err := waitNodeReady(ctx, client, cfg.Node.Name); err != nil {
			return err
		}
	}
	if err := MarkControlPlane(ctx, client, cfg.Node.Name); err != nil {
		return err
	}
	m.say("mark-control-plane", "node %s is Ready", cfg.Node.Name)
	if err := ApplyDNS(ctx, client, cfg.Cluster); err != nil {
		return err
	}
	m.say("addons", "kube-dns at %s", cfg.Cluster.DNSIP())
	return nil
}

// uploadConfig writes the ConfigMap, or changes the one of an earlier run.
func uploadConfig(ctx context.Context, client kubernetes.Interface, cluster components.Cluster) error {
	maps := client.CoreV1().ConfigMaps(metav1.NamespaceSystem)
	want := configMap(cluster)
	_, err := maps.Create(ctx, want, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		var have *corev1.ConfigMap
		if have, err = maps.Get(ctx, configName, metav1.GetOptions{}); err == nil {
			have.Data = want.Data
			_, err = maps.Update(ctx, have, metav1.UpdateOptions{})
		}
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", configName, err)
	}
	return nil
}
