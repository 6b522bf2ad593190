package machine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/machine/components"
)

// JoinConfig is what a machine is told about the cluster it shall join.
type JoinConfig struct {
	Address  netip.AddrPort // of the API server
	Token    string
	CAHashes []string        // of --discovery-token-ca-cert-hash; one must be the CA's
	Node     components.Node // may be left open: the host name; the address that leads to the API server
	// IgnoreErrors are checks whose answer does not matter.
	IgnoreErrors []string
	Verbosity    int
}

// Join makes this machine a node. See the package comment for the steps.
func (m *Machine) Join(ctx context.Context, cfg JoinConfig) error {
	if err := errors.Join(validHashes(cfg.CAHashes), validToken(cfg.Token)); err != nil {
		return err
	}
	if err := cfg.complete(); err != nil {
		return err
	}
	old, err := loadState()
	if err := errors.Join(err, old.sameCluster(state{Cluster: components.Cluster{ControlPlane: cfg.Address.Addr()}, Node: cfg.Node})); err != nil {
		return err
	}
	caPEM, err := discover(ctx, cfg.Address.String(), cfg.CAHashes)
	if err != nil {
		return err
	}
	m.say("discovery", "the API server at %s has the CA that was named", cfg.Address)
	j := &joiner{Machine: m, root: "/", server: "https://" + cfg.Address.String(), caPEM: caPEM, node: cfg.Node, context: contextName}
	byToken, err := j.withToken(cfg.Token)
	if err != nil {
		return err
	}
	cluster, err := j.readCluster(ctx, byToken, cfg)
	if err != nil {
		return err
	}
	want := state{Cluster: cluster, Node: cfg.Node, Before: lookBefore()}
	if err := m.admit(old, want, nodeChecks(cluster, cfg.Node), cfg.IgnoreErrors); err != nil {
		return err
	}
	return j.makeNode(ctx, byToken, cluster)
}

func (cfg *JoinConfig) complete() (err error) {
	if !cfg.Node.IP.IsValid() {
		if cfg.Node.IP, err = addressTowards(cfg.Address.Addr()); err != nil {
			return fmt.Errorf("%w; say this machine's address with --node-ip", err)
		}
	}
	return completeName(&cfg.Node)
}

// readCluster learns what kind of cluster this is, and that nobody else has our
// name: by the token, or on a machine that has joined before, by what it got.
func (j *joiner) readCluster(ctx context.Context, byToken kubernetes.Interface, cfg JoinConfig) (components.Cluster, error) {
	client, again := byToken, j.kubeletWorks(ctx)
	if again {
		var err error
		if client, err = j.asKubelet(); err != nil {
			return components.Cluster{}, err
		}
	}
	object, err := client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, configName, metav1.GetOptions{})
	if err != nil {
		return components.Cluster{}, tokenError(fmt.Errorf("read ConfigMap %s: %w", configName, err))
	}
	cluster, err := readConfig(object, cfg.Address.Addr(), cfg.Verbosity)
	if err != nil {
		return cluster, err
	}
	if again {
		return cluster, nil
	}
	node, err := client.CoreV1().Nodes().Get(ctx, cfg.Node.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return cluster, nil
	}
	if err != nil {
		return cluster, fmt.Errorf("look whether node %s exists: %w", cfg.Node.Name, err)
	}
	if ready, _ := nodeReady(node); ready {
		return cluster, fmt.Errorf("a node %s is in the cluster already and Ready: use another --node-name, or kubectl delete node %s first", node.Name, node.Name)
	}
	return cluster, nil
}

// makeNode does the rest: certificates, and what init does on its own machine.
func (j *joiner) makeNode(ctx context.Context, byToken kubernetes.Interface, cluster components.Cluster) error {
	if err := j.prepareKernel(cluster); err != nil {
		return err
	}
	if err := j.installPrograms(); err != nil {
		return err
	}
	if err := j.becomeKubelet(ctx, byToken); err != nil {
		return err
	}
	asKubelet, err := j.asKubelet()
	if err != nil {
		return err
	}
	if err := j.nodeCertificates(ctx, asKubelet); err != nil {
		return err
	}
	if _, err := writeIfNew(components.PKI+"/ca.crt", j.caPEM, 0o644); err != nil {
		return err
	}
	if err := j.makeImages(); err != nil {
		return err
	}
	if err := j.startUnits(units(cluster, j.node, false, append(kubeletExtra(), "--rotate-certificates=true"))); err != nil {
		return err
	}
	if cluster.PodNetwork == "none" {
		return nil
	}
	if err := waitNodeReady(ctx, asKubelet, j.node.Name); err != nil {
		return err
	}
	j.say("kubelet-wait", "node %s is Ready", j.node.Name)
	return nil
}
