package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/iptables"
)

const proxyHelp = `kube-proxy makes Services reachable on a node: it watches Services and
EndpointSlices and keeps the node's rules equal to them. The rules stay when it
ends; --cleanup removes them.

Usage: podarium proxy [flags]
`

type proxyFlags struct {
	kubeconfig, node, mode string
	detectLocal            string
	clusterCIDR            string
	nodePortAddresses      string
	health                 string
	syncPeriod             time.Duration
	masqueradeAll          bool
	masqueradeBit          uint
	localhostNodePorts     bool
	cleanup                bool
	verbosity              int
}

func (f *proxyFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` with the API server's address and our credentials")
	flags.StringVar(&f.node, "hostname-override", "", "`name` of our Node; empty: the host name")
	flags.StringVar(&f.mode, "proxy-mode", "iptables", "how to carry Services: iptables")
	flags.StringVar(&f.clusterCIDR, "cluster-cidr", "", "`range` of all pods: what comes from there to a ClusterIP is not masqueraded")
	flags.StringVar(&f.detectLocal, "detect-local-mode", "ClusterCIDR", "what is a pod of ours: ClusterCIDR, or NodeCIDR (the node's pod range)")
	flags.StringVar(&f.nodePortAddresses, "nodeport-addresses", "", "`ranges` whose addresses on this node take node ports; empty: all addresses")
	flags.StringVar(&f.health, "healthz-bind-address", "0.0.0.0:10256", "`address` of /healthz and /livez")
	flags.DurationVar(&f.syncPeriod, "iptables-sync-period", 30*time.Second, "how often to look whether the rules are still there")
	flags.BoolVar(&f.masqueradeAll, "masquerade-all", false, "masquerade everything that goes to a ClusterIP")
	flags.UintVar(&f.masqueradeBit, "iptables-masquerade-bit", 14, "`bit` of the packet mark that means: masquerade")
	flags.BoolVar(&f.localhostNodePorts, "iptables-localhost-nodeports", true, "node ports answer on 127.0.0.1 too")
	flags.BoolVar(&f.cleanup, "cleanup", false, "remove all rules and exit")
	flags.IntVar(&f.verbosity, "v", 2, "log `level`: 2 what changes, 4 why")
}

func (f *proxyFlags) validate() error {
	var errs []error
	if f.mode != "iptables" {
		errs = append(errs, fmt.Errorf("--proxy-mode %q: must be iptables", f.mode))
	}
	if f.detectLocal != "ClusterCIDR" && f.detectLocal != "NodeCIDR" {
		errs = append(errs, fmt.Errorf("--detect-local-mode %q: must be ClusterCIDR or NodeCIDR", f.detectLocal))
	}
	if f.masqueradeBit > 31 {
		errs = append(errs, fmt.Errorf("--iptables-masquerade-bit %d: must be 0 to 31", f.masqueradeBit))
	}
	if f.syncPeriod <= 0 {
		errs = append(errs, fmt.Errorf("--iptables-sync-period %v: must be more than 0", f.syncPeriod))
	}
	return errors.Join(errs...)
}

func proxyCommand(ctx context.Context, args []string) error {
	var f proxyFlags
	flags := newFlagSet("proxy", proxyHelp)
	f.define(flags)
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	setupLogging(f.verbosity)
	if f.cleanup {
		return iptables.Cleanup(ctx)
	}
	if err := f.validate(); err != nil {
		return err
	}
	client, err := kube.Client(f.kubeconfig, "kube-proxy")
	if err != nil {
		return err
	}
	if f.node == "" {
		if f.node, err = os.Hostname(); err != nil {
			return fmt.Errorf("read host name: %w", err)
		}
	}
	cfg, err := f.backendConfig(ctx, client)
	if err != nil {
		return err
	}
	slog.Info("Using iptables Proxier", "node", f.node, "localPods", cfg.LocalPods)
	backend, err := iptables.New(cfg)
	if err != nil {
		return err
	}
	return proxy.Run(ctx, proxy.Config{Client: client, Node: f.node, Backend: backend, HealthAddress: f.health, SyncPeriod: f.syncPeriod})
}

func (f *proxyFlags) backendConfig(ctx context.Context, client kubernetes.Interface) (iptables.Config, error) {
	cfg := iptables.Config{MasqueradeAll: f.masqueradeAll, MasqueradeBit: f.masqueradeBit, LocalhostNodePorts: f.localhostNodePorts}
	var err error
	if cfg.NodePortAddresses, err = parsePrefixes("--nodeport-addresses", f.nodePortAddresses); err != nil {
		return cfg, err
	}
	pods, err := parsePrefixes("--cluster-cidr", f.clusterCIDR)
	if err != nil {
		return cfg, err
	}
	node, err := waitNode(ctx, client, f.node, f.detectLocal == "NodeCIDR")
	if err != nil {
		return cfg, err
	}
	if cfg.NodeIP, err = internalIP(node); err != nil {
		return cfg, fmt.Errorf("read address of node %s: %w", f.node, err)
	}
	if f.detectLocal == "NodeCIDR" {
		pods, err = parsePrefixes("pod CIDR of "+f.node, node.Spec.PodCIDR)
	}
	if err == nil && len(pods) > 0 {
		cfg.LocalPods = pods[0]
	}
	return cfg, err
}

// waitNode waits until our Node is registered, with an address and, when
// needed, its range of pod addresses.
func waitNode(ctx context.Context, client kubernetes.Interface, name string, withPods bool) (*corev1.Node, error) {
	if err := kube.WaitReady(ctx, client); err != nil {
		return nil, err
	}
	only := fields.OneTermEqualSelector("metadata.name", name)
	lw := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", "", only)
	event, err := watchtools.UntilWithSync(ctx, lw, &corev1.Node{}, nil, func(event watch.Event) (bool, error) {
		node, ok := event.Object.(*corev1.Node)
		if !ok {
			return false, nil
		}
		_, err := internalIP(node)
		return err == nil && (!withPods || node.Spec.PodCIDR != ""), nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for node %s to be registered: %w", name, err)
	}
	return event.Object.(*corev1.Node), nil
}

// parsePrefixes reads a list of IPv4 ranges; IPv6 ones are for another family.
func parsePrefixes(what, list string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		prefix, err := netip.ParsePrefix(part)
		if err != nil {
			return nil, fmt.Errorf("%s %q: %w", what, part, err)
		}
		if prefix.Addr().Is4() {
			prefixes = append(prefixes, prefix.Masked())
		}
	}
	return prefixes, nil
}
