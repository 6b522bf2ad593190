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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

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
	if f.detectLocal == "NodeCIDR" {
		pods, err = nodePodCIDR(ctx, client, f.node)
	}
	if err == nil && len(pods) > 0 {
		cfg.LocalPods = pods[0]
	}
	return cfg, err
}

// nodePodCIDR waits until the node has been given its range.
func nodePodCIDR(ctx context.Context, client kubernetes.Interface, name string) ([]netip.Prefix, error) {
	watcher, err := client.CoreV1().Nodes().Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		return nil, fmt.Errorf("watch node %s for its pod CIDR: %w", name, err)
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if node, ok := event.Object.(*corev1.Node); ok && node.Spec.PodCIDR != "" {
			return parsePrefixes("pod CIDR of "+name, node.Spec.PodCIDR)
		}
	}
	return nil, fmt.Errorf("watch node %s for its pod CIDR: the watch ended", name)
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
