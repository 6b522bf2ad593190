package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/podarium/podarium/machine/components"
)

// Machine is the machine this program runs on, while steps are taken on it.
type Machine struct {
	out             io.Writer
	programsChanged bool            // so that all units start anew
	restart         map[string]bool // components whose files changed
}

// New returns the machine; what the steps do and find is told on out.
func New(out io.Writer) *Machine {
	return &Machine{out: out, restart: map[string]bool{}}
}

// say writes one line as kubeadm does: "[certs] …".
func (m *Machine) say(phase, format string, args ...any) {
	fmt.Fprintf(m.out, "[%s] %s\n", phase, fmt.Sprintf(format, args...))
}

// found is say for a step which has looked first.
func (m *Machine) found(phase string, changed bool, format string, args ...any) {
	if changed {
		m.say(phase, format, args...)
	} else {
		m.say(phase, "there already: "+format, args...)
	}
}

// Patience with what other processes do: on a slow virtual machine the first
// start of all components at once takes a minute.
const patience = 5 * time.Minute

// waitNodeReady watches a Node until it is Ready, which it is when its kubelet
// runs and has a pod network.
func waitNodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	last := "it has not registered"
	lw := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", "", fields.OneTermEqualSelector("metadata.name", name))
	_, err := watchtools.UntilWithSync(ctx, lw, &corev1.Node{}, nil, func(event watch.Event) (bool, error) {
		node, ok := event.Object.(*corev1.Node)
		if !ok {
			return false, nil
		}
		ready, message := nodeReady(node)
		last = message
		return ready, nil
	})
	if err != nil {
		return fmt.Errorf("wait for node %s to be Ready (%s; see journalctl -u kubelet): %w", name, last, err)
	}
	return nil
}

func nodeReady(node *corev1.Node) (ready bool, message string) {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, c.Message
		}
	}
	return false, "it has not told its condition"
}

// MarkControlPlane gives a node the role that `kubectl get nodes` shows. A
// kubelet may not do it itself: whoever owned a node could make it attractive.
func MarkControlPlane(ctx context.Context, client kubernetes.Interface, node string) error {
	patch := []byte(`{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`)
	if _, err := client.CoreV1().Nodes().Patch(ctx, node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("label %s as control plane: %w", node, err)
	}
	return nil
}

// The ConfigMap by which a machine that joins learns what kind of cluster it is.
const (
	configName     = "podarium-config"
	keyClusterCIDR = "cluster-cidr"
	keyServiceCIDR = "service-cluster-ip-range"
	keyProxyMode   = "proxy-mode"
	keyPodNetwork  = "pod-network"
)

func configMap(c components.Cluster) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: configName, Namespace: metav1.NamespaceSystem},
		Data: map[string]string{
			keyClusterCIDR: c.ClusterCIDR.String(), keyServiceCIDR: c.ServiceClusterIPRange.String(),
			keyProxyMode: c.ProxyMode, keyPodNetwork: c.PodNetwork,
		},
	}
}

// readConfig is configMap's reverse.
func readConfig(object *corev1.ConfigMap, controlPlane netip.Addr, verbosity int) (components.Cluster, error) {
	c := components.Cluster{
		ControlPlane: controlPlane, Verbosity: verbosity,
		ProxyMode: object.Data[keyProxyMode], PodNetwork: object.Data[keyPodNetwork],
	}
	var errs [2]error
	c.ClusterCIDR, errs[0] = netip.ParsePrefix(object.Data[keyClusterCIDR])
	c.ServiceClusterIPRange, errs[1] = netip.ParsePrefix(object.Data[keyServiceCIDR])
	if err := errors.Join(append(errs[:], validCluster(c))...); err != nil {
		return c, fmt.Errorf("read ConfigMap %s/%s: %s", metav1.NamespaceSystem, configName, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return c, nil
}

// validCluster checks what can be chosen about a cluster.
func validCluster(c components.Cluster) error {
	errs := []error{
		components.OneOf("--proxy-mode", c.ProxyMode, components.ProxyModes),
		components.OneOf("--pod-network", c.PodNetwork, components.PodNetworks),
		components.Disjoint(components.Range{Flag: "--pod-network-cidr", Prefix: c.ClusterCIDR}, components.Range{Flag: "--service-cidr", Prefix: c.ServiceClusterIPRange}),
	}
	if c.ClusterCIDR.IsValid() && c.ClusterCIDR.Bits() > 23 {
		errs = append(errs, fmt.Errorf("--pod-network-cidr %s: too small for nodes of a /24 each", c.ClusterCIDR))
	}
	if bits := c.ServiceClusterIPRange.Bits(); c.ServiceClusterIPRange.IsValid() && (bits > 27 || bits < 8) {
		errs = append(errs, fmt.Errorf("--service-cidr %s: must be between /8 and /27", c.ServiceClusterIPRange))
	}
	return errors.Join(errs...)
}
