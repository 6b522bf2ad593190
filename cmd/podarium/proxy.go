package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/podarium/podarium/internal/cli"
	iptablesrules "github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/iptables"
	"github.com/podarium/podarium/proxy/ipvs"
	"github.com/podarium/podarium/proxy/nftables"
	"github.com/podarium/podarium/proxy/userspace"
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
	ipvs                   ipvsFlags
	cleanup                bool
	verbosity              int
}

func (f *proxyFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "`file` with the API server's address and our credentials")
	flags.StringVar(&f.node, "hostname-override", "", "`name` of our Node; empty: the host name")
	flags.StringVar(&f.mode, "proxy-mode", "iptables", "how to carry Services: iptables, nftables, ipvs or userspace")
	flags.StringVar(&f.clusterCIDR, "cluster-cidr", "", "`range` of all pods: what comes from there to a ClusterIP is not masqueraded")
	flags.StringVar(&f.detectLocal, "detect-local-mode", "ClusterCIDR", "what is a pod of ours: ClusterCIDR, or NodeCIDR (the node's pod range)")
	flags.StringVar(&f.nodePortAddresses, "nodeport-addresses", "", "`ranges` whose addresses on this node take node ports; empty: all addresses")
	flags.StringVar(&f.health, "healthz-bind-address", "0.0.0.0:10256", "`address` of /healthz and /livez")
	flags.DurationVar(&f.syncPeriod, "iptables-sync-period", 30*time.Second, "how often to look whether the rules are still there")
	flags.BoolVar(&f.masqueradeAll, "masquerade-all", false, "masquerade everything that goes to a ClusterIP")
	flags.UintVar(&f.masqueradeBit, "iptables-masquerade-bit", 14, "`bit` of the packet mark that means: masquerade")
	flags.BoolVar(&f.localhostNodePorts, "iptables-localhost-nodeports", true, "node ports answer on 127.0.0.1 too")
	f.ipvs.define(flags)
	flags.BoolVar(&f.cleanup, "cleanup", false, "remove all rules and exit")
	flags.IntVar(&f.verbosity, "v", 2, "log `level`: 2 what changes, 4 why")
}

func (f *proxyFlags) validate() error {
	var errs []error
	if !slices.Contains([]string{"iptables", "nftables", "ipvs", "userspace"}, f.mode) {
		errs = append(errs, fmt.Errorf("--proxy-mode %q: must be iptables, nftables, ipvs or userspace", f.mode))
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
	return errors.Join(append(errs, f.ipvs.validate())...)
}

func proxyCommand(ctx context.Context, args []string) error {
	var f proxyFlags
	flags := cli.NewFlagSet("proxy", proxyHelp)
	f.define(flags)
	if err := cli.Parse(flags, args); err != nil {
		return err
	}
	setupLogging(f.verbosity)
	if f.cleanup {
		return errors.Join(ipvs.Cleanup(ctx), iptables.Cleanup(ctx), nftables.Cleanup(ctx))
	}
	if err := f.validate(); err != nil {
		return err
	}
	if f.mode == "ipvs" {
		if err := ipvs.Supported(); err != nil {
			return err
		}
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
	backend, err := f.backend(ctx, client)
	if err != nil {
		return err
	}
	period := f.syncPeriod
	if f.mode == "ipvs" {
		period = f.ipvs.syncPeriod
	}
	return proxy.Run(ctx, proxy.Config{Client: client, Node: f.node, Backend: backend, HealthAddress: f.health, SyncPeriod: period})
}

// backend makes the mode's, and removes what the other modes may have left: a
// packet must not be translated twice.
func (f *proxyFlags) backend(ctx context.Context, client kubernetes.Interface) (proxy.Backend, error) {
	nodePorts, err := parsePrefixes("--nodeport-addresses", f.nodePortAddresses)
	if err != nil {
		return nil, err
	}
	ip, pods, err := f.addresses(ctx, client)
	if err != nil {
		return nil, err
	}
	slog.Info("Using "+f.mode+" Proxier", "node", f.node, "localPods", pods) //nolint:sloglint // the words which people look for
	switch f.mode {
	case "userspace":
		// Its portals do not outlive it, so there is nothing to carry over from
		// a run before, of whatever mode.
		if err := errors.Join(ipvs.Cleanup(ctx), iptables.Cleanup(ctx), nftables.Cleanup(ctx)); err != nil {
			slog.Info("rules of other modes not removed", "err", err)
		}
		return userspace.New(userspace.Config{NodeIP: ip, LocalPods: pods, NodePortAddresses: nodePorts})
	case "nftables":
		if err := errors.Join(ipvs.Cleanup(ctx), iptables.Cleanup(ctx)); err != nil {
			slog.Info("rules of other modes not removed", "err", err)
		}
		ranges, err := serviceCIDRs(ctx, client)
		if err != nil {
			return nil, err
		}
		return nftables.New(nftables.Config{
			NodeIP: ip, LocalPods: pods, ServiceCIDRs: ranges,
			MasqueradeAll: f.masqueradeAll, MasqueradeBit: f.masqueradeBit, NodePortAddresses: nodePorts,
		}), nil
	case "ipvs":
		if err := errors.Join(nftables.Cleanup(ctx), removePortals(ctx), removeServiceChains(ctx)); err != nil {
			slog.Info("rules of other modes not removed", "err", err)
		}
		return f.ipvs.backend(ipvs.Config{
			NodeIP: ip, LocalPods: pods, MasqueradeAll: f.masqueradeAll, MasqueradeBit: f.masqueradeBit, NodePortAddresses: nodePorts,
		})
	}
	if err := errors.Join(ipvs.Cleanup(ctx), nftables.Cleanup(ctx), removePortals(ctx)); err != nil {
		slog.Info("rules of other modes not removed", "err", err)
	}
	return iptables.New(iptables.Config{
		NodeIP: ip, LocalPods: pods, MasqueradeAll: f.masqueradeAll, MasqueradeBit: f.masqueradeBit,
		LocalhostNodePorts: f.localhostNodePorts, NodePortAddresses: nodePorts,
	})
}

// removePortals removes the rules of userspace mode when they are there, and
// leaves those of iptables mode, which carry on while it restarts.
func removePortals(ctx context.Context) error {
	return iptablesrules.Remove(ctx, []string{"filter", "nat"}, "KUBE-PORTALS-", "KUBE-NODEPORT-")
}

// removeServiceChains removes the rules of iptables mode but for the chains
// which ipvs mode has too: those carry on while it restarts.
func removeServiceChains(ctx context.Context) error {
	return errors.Join(
		iptablesrules.Remove(ctx, []string{"filter", "nat", "mangle"}, "KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-",
			"KUBE-NODEPORTS", "KUBE-EXTERNAL-SERVICES", "KUBE-FIREWALL", "KUBE-PROXY-CANARY"),
		iptablesrules.Remove(ctx, []string{"filter"}, "KUBE-SERVICES"),
	)
}

// addresses are the node's own and where its pods' packets come from.
func (f *proxyFlags) addresses(ctx context.Context, client kubernetes.Interface) (netip.Addr, netip.Prefix, error) {
	pods, err := parsePrefixes("--cluster-cidr", f.clusterCIDR)
	if err != nil {
		return netip.Addr{}, netip.Prefix{}, err
	}
	node, err := waitNode(ctx, client, f.node, f.detectLocal == "NodeCIDR")
	if err != nil {
		return netip.Addr{}, netip.Prefix{}, err
	}
	ip, err := internalIP(node)
	if err != nil {
		return netip.Addr{}, netip.Prefix{}, fmt.Errorf("read address of node %s: %w", f.node, err)
	}
	if f.detectLocal == "NodeCIDR" {
		pods, err = parsePrefixes("pod CIDR of "+f.node, node.Spec.PodCIDR)
	}
	if err != nil || len(pods) == 0 {
		return ip, netip.Prefix{}, err
	}
	return ip, pods[0], nil
}

// serviceCIDRs are the ranges of all ClusterIPs; a server that does not keep
// them as objects leaves the rule that needs them out.
func serviceCIDRs(ctx context.Context, client kubernetes.Interface) ([]netip.Prefix, error) {
	list, err := client.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list service CIDRs: %w", err)
	}
	var ranges []netip.Prefix
	for _, item := range list.Items {
		prefixes, err := parsePrefixes("service CIDR "+item.Name, strings.Join(item.Spec.CIDRs, ","))
		if err != nil {
			return nil, err
		}
		ranges = append(ranges, prefixes...)
	}
	return ranges, nil
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
