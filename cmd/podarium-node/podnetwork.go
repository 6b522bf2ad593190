package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/podarium/podarium/cni"
	"github.com/podarium/podarium/internal/kube"
)

// podNetwork keeps one node's part of the pod network: the configuration that
// the kubelet finds in /etc/cni/net.d, routes to the other nodes' pods, and the
// masquerade rule. It is the wire between the Node objects, which know every
// node's share of the pod addresses, and package cni, which knows Linux.
type podNetwork struct {
	node        string
	mode        string // host-gw or vxlan
	clusterCIDR netip.Prefix
	confDir     string
	binDir      string
	confFile    string // what has been written there, to write only changes
}

// podNetworkRetry is how long after a failure the same is tried again, when no
// node changes earlier.
const podNetworkRetry = time.Second

// run follows the Node objects until ctx is done.
func (p *podNetwork) run(ctx context.Context, client kubernetes.Interface) error {
	if err := kube.WaitReady(ctx, client); err != nil {
		return nil // asked to end before there was an API server
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(trimNode))
	nodes := factory.Core().V1().Nodes()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default: // one more is waiting already, and will see this too
		}
	}
	_, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(_, _ any) { notify() },
		DeleteFunc: func(any) { notify() },
	})
	if err != nil {
		return fmt.Errorf("watch nodes: %w", err)
	}
	factory.StartWithContext(ctx)
	for {
		select {
		case <-ctx.Done():
			factory.Shutdown()
			return nil
		case <-changed:
		}
		if err := p.sync(ctx, nodes.Lister()); err != nil {
			slog.Error("pod network not in order", "err", err)
			time.AfterFunc(podNetworkRetry, notify)
		}
	}
}

// sync makes routes, rules and configuration fit the nodes there are. The
// configuration comes last: with it the node becomes Ready.
func (p *podNetwork) sync(ctx context.Context, lister corelisters.NodeLister) error {
	nodes, err := lister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	own, peers, inside := p.topology(nodes)
	if !own.Pods.IsValid() {
		slog.Debug("no pod CIDR yet", "node", p.node)
		return nil
	}
	mtu, err := p.connect(own, peers)
	if err != nil {
		return err
	}
	if err := cni.SyncMasquerade(ctx, own.Pods, inside); err != nil {
		return err
	}
	if err := cni.SyncForward(ctx, p.clusterCIDR); err != nil {
		return err
	}
	return p.writeConf(own.Pods, mtu)
}

// connect makes the ways to the other nodes' pods, in the mode that was chosen
// and in no other, and returns the MTU that pods may use (0: the usual one).
func (p *podNetwork) connect(own cni.Peer, peers []cni.Peer) (mtu int, err error) {
	routes := cni.HostGateway(peers)
	if p.mode == "vxlan" {
		if routes, err = cni.SyncOverlay(own, peers); err != nil {
			return 0, err
		}
		if mtu, err = cni.OverlayMTU(own); err != nil {
			return 0, err
		}
	}
	plan, err := cni.SyncRoutes(routes)
	if err != nil {
		return 0, err
	}
	for _, r := range plan.Add {
		slog.Info("route added", "pods", r.Pods, "via", r.Via)
	}
	for _, r := range plan.Remove {
		slog.Info("route removed", "pods", r.Pods, "via", r.Via)
	}
	if p.mode != "vxlan" {
		return 0, cni.RemoveOverlay()
	}
	return mtu, nil
}

// topology reads the nodes: our own pods' range, the other nodes, and what is
// inside of the cluster and therefore not masqueraded.
func (p *podNetwork) topology(nodes []*corev1.Node) (own cni.Peer, peers []cni.Peer, inside []netip.Prefix) {
	inside = []netip.Prefix{p.clusterCIDR}
	for _, node := range nodes {
		addr, err := internalIP(node)
		if err != nil {
			slog.Debug("node has no address yet", "node", node.Name)
			continue
		}
		inside = append(inside, netip.PrefixFrom(addr, addr.BitLen()))
		pods, err := netip.ParsePrefix(node.Spec.PodCIDR)
		switch {
		case err != nil:
			slog.Debug("node has no pod CIDR yet", "node", node.Name)
		case node.Name == p.node:
			own = cni.Peer{Node: addr, Pods: pods}
		default:
			peers = append(peers, cni.Peer{Node: addr, Pods: pods})
		}
	}
	return own, peers, inside
}

func internalIP(node *corev1.Node) (netip.Addr, error) {
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return netip.ParseAddr(a.Address)
		}
	}
	return netip.Addr{}, errors.New("no InternalIP")
}

// confName sorts before what a user may drop into the folder, and after "05-…".
const confName = "10-podarium.conflist"

// portMapPlugin is upstream's plugin which forwards a pod's hostPort.
const portMapPlugin = "portmap"

// conf is the network configuration of this node: our own plugin, and behind it
// portmap if the node has it. It does nothing for a pod without hostPort.
func (p *podNetwork) conf(subnet netip.Prefix, mtu int) ([]byte, error) {
	own := map[string]any{"type": cni.PluginType, "bridge": cni.DefaultBridge, "subnet": subnet}
	if mtu != 0 {
		own["mtu"] = mtu
	}
	plugins := []any{own}
	if _, err := os.Stat(filepath.Join(p.binDir, portMapPlugin)); err == nil {
		plugins = append(plugins, map[string]any{
			"type": portMapPlugin, "backend": "iptables", "capabilities": map[string]bool{"portMappings": true},
		})
	} else {
		slog.Warn("hostPort does not work without upstream's CNI plugin", "plugin", portMapPlugin, "err", err)
	}
	conf, err := json.MarshalIndent(map[string]any{
		"cniVersion": "1.1.0",
		"name":       cni.PluginType,
		"plugins":    plugins,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode network configuration: %w", err)
	}
	return conf, nil
}

// writeConf writes the network configuration in one step, and only a new one:
// the kubelet watches the folder.
func (p *podNetwork) writeConf(subnet netip.Prefix, mtu int) error {
	conf, err := p.conf(subnet, mtu)
	if err != nil {
		return err
	}
	path := filepath.Join(p.confDir, confName)
	if p.confFile == "" {
		if old, err := os.ReadFile(path); err == nil {
			p.confFile = string(old)
		}
	}
	if p.confFile == string(conf) {
		return nil
	}
	if err := os.MkdirAll(p.confDir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", p.confDir, err)
	}
	if err := os.WriteFile(path+".new", conf, 0o644); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("write network configuration: %w", err)
	}
	p.confFile = string(conf)
	slog.Info("network configuration written", "file", path, "subnet", subnet)
	return nil
}

// trimNode keeps of a node what sync reads; of its status only the addresses,
// for the rest changes often.
func trimNode(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil
	}
	return &corev1.Node{
		ObjectMeta: node.ObjectMeta,
		Spec:       corev1.NodeSpec{PodCIDR: node.Spec.PodCIDR},
		Status:     corev1.NodeStatus{Addresses: node.Status.Addresses},
	}, nil
}
