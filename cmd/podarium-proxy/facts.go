package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/proxy"
)

// proxyFacts are what the proxy's rules depend on besides Services, in one IP
// family.
type proxyFacts struct {
	family    corev1.IPFamily
	node      netip.Addr // the node's own address; not valid: it has none
	pods      proxy.LocalPods
	services  []netip.Prefix // the ranges of all ClusterIPs
	nodePorts []netip.Prefix // --nodeport-addresses
}

// facts are those of IPv4 and of IPv6, in this order.
func (f *proxyFlags) facts(ctx context.Context, client kubernetes.Interface) ([]proxyFacts, error) {
	node, err := waitNode(ctx, client, f.node, f.detectLocal == "NodeCIDR")
	if err != nil {
		return nil, err
	}
	pods, err := f.podRanges(node)
	if err != nil {
		return nil, err
	}
	services, err := serviceCIDRs(ctx, client)
	if err != nil {
		return nil, err
	}
	list := []proxyFacts{{family: corev1.IPv4Protocol}, {family: corev1.IPv6Protocol}}
	for i := range list {
		own := &list[i]
		own.node = f.nodeIP(node, own.family)
		if own.nodePorts, err = f.nodePortRanges(own.node); err != nil {
			return nil, err
		}
		own.nodePorts, own.services = ofFamily(own.nodePorts, own.family), ofFamily(services, own.family)
		switch f.detectLocal {
		case "BridgeInterface":
			own.pods.Bridge = f.podBridge
		case "InterfaceNamePrefix":
			own.pods.InterfacePrefix = f.podInterfacePrefix
		}
		if of := ofFamily(pods, own.family); len(of) > 0 {
			own.pods.Range = of[0]
		}
	}
	return list, nil
}

// nodeIP is --bind-address, or else the address of the Node.
func (f *proxyFlags) nodeIP(node *corev1.Node, family corev1.IPFamily) netip.Addr {
	bind, err := netip.ParseAddr(f.bindAddress)
	if err == nil && !bind.IsUnspecified() && bind.Is4() == (family == corev1.IPv4Protocol) {
		return bind
	}
	return internalIPOf(node, family)
}

// podRanges are where pods' packets come from, where that tells whose they are.
func (f *proxyFlags) podRanges(node *corev1.Node) ([]netip.Prefix, error) {
	switch f.detectLocal {
	case "ClusterCIDR":
		return parsePrefixes("--cluster-cidr", f.clusterCIDR)
	case "NodeCIDR":
		return parsePrefixes("pod CIDRs of "+f.node, node.Spec.PodCIDR+","+strings.Join(node.Spec.PodCIDRs, ","))
	}
	return nil, nil
}

// nodePortRanges are those of --nodeport-addresses; "primary" is the node's own
// address.
func (f *proxyFlags) nodePortRanges(node netip.Addr) ([]netip.Prefix, error) {
	if f.nodePortAddresses != "primary" {
		return parsePrefixes("--nodeport-addresses", f.nodePortAddresses)
	}
	if !node.IsValid() {
		return nil, nil
	}
	return []netip.Prefix{netip.PrefixFrom(node, node.BitLen())}, nil
}

// internalIPOf is a node's first address of the family, if it has one.
func internalIPOf(node *corev1.Node, family corev1.IPFamily) netip.Addr {
	for _, a := range node.Status.Addresses {
		ip, err := netip.ParseAddr(a.Address)
		if err == nil && a.Type == corev1.NodeInternalIP && ip.Is4() == (family == corev1.IPv4Protocol) {
			return ip
		}
	}
	return netip.Addr{}
}

func ofFamily(prefixes []netip.Prefix, family corev1.IPFamily) []netip.Prefix {
	var own []netip.Prefix
	for _, p := range prefixes {
		if p.Addr().Is4() == (family == corev1.IPv4Protocol) {
			own = append(own, p)
		}
	}
	return own
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
		addressed := slices.ContainsFunc([]corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, func(family corev1.IPFamily) bool {
			return internalIPOf(node, family).IsValid()
		})
		return addressed && (!withPods || node.Spec.PodCIDR != ""), nil
	})
	if err != nil {
		return nil, fmt.Errorf("wait for node %s to be registered: %w", name, err)
	}
	return event.Object.(*corev1.Node), nil
}
