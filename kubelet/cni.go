package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	corev1 "k8s.io/api/core/v1"
)

// errNoNetwork is what a node says while no CNI configuration is there.
var errNoNetwork = errors.New("network plugin returns error: cni plugin not initialized")

// podNetwork gives pods their network through CNI plugins, as the CNI specification 1.1 has it: the
// first configuration of confDir by name counts.
type podNetwork struct {
	confDir string
	cni     libcni.CNI

	mu   sync.Mutex
	list *libcni.NetworkConfigList
	err  error
}

func newPodNetwork(confDir, binDir, cacheDir string) *podNetwork {
	n := &podNetwork{confDir: confDir, cni: libcni.NewCNIConfigWithCacheDir([]string{binDir}, cacheDir, nil)}
	n.load()
	return n
}

// load reads the configuration again and tells whether it is another one.
func (n *podNetwork) load() bool {
	list, err := firstConfig(n.confDir)
	n.mu.Lock()
	defer n.mu.Unlock()
	changed := (n.err == nil) != (err == nil) || !sameConfig(n.list, list)
	n.list, n.err = list, err
	if list != nil && changed {
		slog.Info("Pod network is configured", "name", list.Name, "plugins", len(list.Plugins))
	}
	return changed
}

func sameConfig(a, b *libcni.NetworkConfigList) bool {
	if a == nil || b == nil {
		return a == b
	}
	return bytes.Equal(a.Bytes, b.Bytes)
}

func firstConfig(dir string) (*libcni.NetworkConfigList, error) {
	files, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		return nil, fmt.Errorf("read CNI configuration: %w", err)
	}
	slices.Sort(files)
	for _, file := range files {
		list, err := readConfig(file)
		if err != nil {
			slog.Warn("Skipping broken CNI configuration", "file", file, "error", err)
			continue
		}
		return list, nil
	}
	return nil, errNoNetwork
}

func readConfig(file string) (*libcni.NetworkConfigList, error) {
	if filepath.Ext(file) == ".conflist" {
		return libcni.ConfListFromFile(file)
	}
	// The specification has only lists since version 1.0; runtimes still take
	// a single plugin's file, which upstream's older examples are.
	single, err := libcni.ConfFromFile(file) //nolint:staticcheck // as above
	if err != nil {
		return nil, err
	}
	return libcni.ConfListFromConf(single) //nolint:staticcheck // as above
}

// ready is nil when pods can have a network.
func (n *podNetwork) ready() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *podNetwork) config() (*libcni.NetworkConfigList, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.list, n.err
}

// attach gives the namespace an interface eth0 and returns its addresses. libcni does not take back
// what a failed ADD did, so a DEL follows.
func (n *podNetwork) attach(ctx context.Context, s sandboxRecord) ([]string, error) {
	list, err := n.config()
	if err != nil {
		return nil, err
	}
	list = neededPlugins(list, s)
	conf := cniArguments(s)
	result, err := n.cni.AddNetworkList(ctx, list, conf)
	if err == nil {
		var ips []string
		if ips, err = addresses(result); err == nil {
			return ips, nil
		}
	}
	if delErr := n.cni.DelNetworkList(context.WithoutCancel(ctx), list, conf); delErr != nil {
		slog.Debug("Taking back a failed CNI ADD", "pod", s.PodName, "error", delErr)
	}
	return nil, fmt.Errorf("failed to setup network for sandbox %q: %w", s.ID, err)
}

// detach takes the network from a sandbox, with the configuration which libcni noted down when it was
// attached. It may be called again, and when the namespace is gone.
func (n *podNetwork) detach(ctx context.Context, s sandboxRecord) error {
	conf := cniArguments(s)
	if _, err := os.Stat(conf.NetNS); err != nil {
		conf.NetNS = "" // the plugin frees what it keeps elsewhere: the address
	}
	list, err := n.attachedBy(s)
	if err != nil || list == nil {
		return err
	}
	if err := n.cni.DelNetworkList(ctx, neededPlugins(list, s), conf); err != nil {
		return fmt.Errorf("failed to destroy network for sandbox %q: %w", s.ID, err)
	}
	return nil
}

// attachedBy is the configuration of the ADD. libcni notes it down only when the ADD has succeeded; a
// kubelet which was killed before that left an address behind all the same, so the configuration of
// today has to serve then. It is nil when there is none.
func (n *podNetwork) attachedBy(s sandboxRecord) (*libcni.NetworkConfigList, error) {
	attachments, err := n.cni.GetCachedAttachments(s.ID)
	if err != nil {
		return nil, fmt.Errorf("read CNI attachments of pod %s: %w", s.PodName, err)
	}
	for _, attachment := range attachments {
		if attachment.IfName == podInterface {
			return libcni.ConfListFromBytes(attachment.Config)
		}
	}
	list, err := n.config()
	if err != nil {
		slog.Debug("No network to detach from", "pod", s.PodName, "error", err)
		return nil, nil
	}
	return list, nil
}

// neededPlugins leaves portmap out for a pod without host ports, as most are: without mappings it hands
// on the result of the plugin before it and does nothing, but to start it costs as much as our own
// plugin's work, and at DEL it searches iptables for rules which nobody made.
func neededPlugins(list *libcni.NetworkConfigList, s sandboxRecord) *libcni.NetworkConfigList {
	if len(s.PortMappings) > 0 {
		return list
	}
	needed := *list
	needed.Plugins = slices.DeleteFunc(slices.Clone(list.Plugins), func(plugin *libcni.NetworkConfig) bool {
		return plugin.Network.Type == "portmap"
	})
	return &needed
}

// podInterface is the name of a pod's interface in its own namespace.
const podInterface = "eth0"

func cniArguments(s sandboxRecord) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: s.ID, NetNS: s.netns(), IfName: podInterface,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", s.PodNamespace},
			{"K8S_POD_NAME", s.PodName},
			{"K8S_POD_INFRA_CONTAINER_ID", s.ID},
			{"K8S_POD_UID", s.PodUID},
		},
		CapabilityArgs: map[string]any{"portMappings": s.PortMappings},
	}
}

// portMapping is an entry of CNI's runtime capability portMappings.
type portMapping struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP,omitempty"`
}

func portMappings(pod *corev1.Pod) []portMapping {
	mappings := []portMapping{}
	for _, c := range allContainers(pod) {
		for _, p := range c.Ports {
			if p.HostPort == 0 {
				continue
			}
			protocol := "tcp"
			switch p.Protocol {
			case corev1.ProtocolUDP:
				protocol = "udp"
			case corev1.ProtocolSCTP:
				protocol = "sctp"
			}
			mappings = append(mappings, portMapping{p.HostPort, p.ContainerPort, protocol, p.HostIP})
		}
	}
	return mappings
}

func addresses(result types.Result) ([]string, error) {
	converted, err := types100.GetResult(result)
	if err != nil {
		return nil, err
	}
	var ips []string
	for _, ip := range converted.IPs {
		ips = append(ips, ip.Address.IP.String())
	}
	if len(ips) == 0 {
		return nil, errors.New("plugin returned no address")
	}
	return ips, nil
}
