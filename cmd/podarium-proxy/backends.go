package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	iptablesrules "github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/iptables"
	"github.com/podarium/podarium/proxy/ipvs"
	"github.com/podarium/podarium/proxy/nftables"
	"github.com/podarium/podarium/proxy/userspace"
)

// backends are the mode's, for each IP family that the mode and the machine
// have, when what other modes may have left is gone: a packet must not be
// translated twice.
func (f *proxyFlags) backends(ctx context.Context, facts []proxyFacts) (map[corev1.IPFamily]proxy.Backend, error) {
	slog.Info("Using "+f.mode+" Proxier", "node", f.node, "localPods", facts[0].pods) //nolint:sloglint // the words which people look for
	if err := f.removeOtherModes(ctx); err != nil {
		slog.Info("rules of other modes not removed", "err", err)
	}
	backends := map[corev1.IPFamily]proxy.Backend{}
	for _, own := range facts {
		if own.family == corev1.IPv6Protocol && !f.hasIPv6(ctx) {
			slog.Info("kube-proxy running in single-stack mode", "ipFamily", corev1.IPv4Protocol)
			return backends, nil
		}
		backend, err := f.backend(own)
		if err != nil {
			return nil, err
		}
		backends[own.family] = backend
	}
	slog.Info("kube-proxy running in dual-stack mode", "primary ipFamily", corev1.IPv4Protocol)
	return backends, nil
}

// hasIPv6 tells whether the mode can carry it on this machine.
func (f *proxyFlags) hasIPv6(ctx context.Context) bool {
	switch f.mode {
	case "iptables":
		return iptablesrules.IPv6.Works(ctx)
	case "nftables":
		return true // one program and one part of the kernel for both
	case "ipvs":
		return ipvs.SupportsIPv6(ctx)
	}
	return false
}

func (f *proxyFlags) backend(own proxyFacts) (proxy.Backend, error) {
	switch f.mode {
	case "userspace":
		return userspace.New(userspace.Config{NodeIP: own.node, LocalPods: own.pods, NodePortAddresses: own.nodePorts})
	case "nftables":
		return nftables.New(nftables.Config{
			Family: own.family, NodeIP: own.node, LocalPods: own.pods, ServiceCIDRs: own.services,
			MasqueradeAll: f.masqueradeAll, MasqueradeBit: f.masqueradeBit, NodePortAddresses: f.nftablesNodePorts(own),
		}), nil
	case "ipvs":
		return f.ipvs.backend(ipvs.Config{
			Family: own.family, NodeIP: own.node, LocalPods: own.pods, MasqueradeAll: f.masqueradeAll, MasqueradeBit: f.masqueradeBit, NodePortAddresses: own.nodePorts,
		})
	}
	return iptables.New(iptables.Config{
		Family: own.family, NodeIP: own.node, LocalPods: own.pods, MasqueradeAll: f.masqueradeAll, MasqueradeBit: f.masqueradeBit,
		LocalhostNodePorts: f.localhostNodePorts, NodePortAddresses: own.nodePorts,
	})
}

// nftablesNodePorts: without --nodeport-addresses nftables mode takes the primary
// address of each family. With 192.168.56.0/24 alone, nothing is said about IPv6,
// and every address of it takes node ports.
func (f *proxyFlags) nftablesNodePorts(own proxyFacts) []netip.Prefix {
	if f.nodePortAddresses == "" || len(own.nodePorts) > 0 {
		return own.nodePorts
	}
	if own.family == corev1.IPv6Protocol {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv6Unspecified(), 0)}
	}
	return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0)}
}

// removeOtherModes leaves the rules of this mode, which carry on while it
// restarts. Userspace mode's portals do not outlive it, so there is nothing to
// carry over from a run before, of whatever mode.
func (f *proxyFlags) removeOtherModes(ctx context.Context) error {
	switch f.mode {
	case "userspace":
		return cleanupProxy(ctx)
	case "nftables":
		return errors.Join(ipvs.Cleanup(ctx), iptables.Cleanup(ctx))
	case "ipvs":
		return errors.Join(nftables.Cleanup(ctx), removeCanaryModes(ctx))
	}
	return errors.Join(ipvs.Cleanup(ctx), nftables.Cleanup(ctx), removePortals(ctx))
}

// removePortals removes the rules of userspace mode when they are there, and
// leaves those of iptables mode, which carry on while it restarts.
func removePortals(ctx context.Context) error {
	return iptablesrules.IPv4.Remove(ctx, []string{"filter", "nat"}, "KUBE-PORTALS-", "KUBE-NODEPORT-")
}

// removeCanaryModes removes the rules of iptables and userspace mode when they
// are there, and leaves those of ipvs mode, some of whose chains have the same
// names. It has no canary, and those two have one in each of their tables.
func removeCanaryModes(ctx context.Context) error {
	for _, table := range []string{"nat", "mangle"} {
		_, canary, err := iptablesrules.IPv4.List(ctx, table, "KUBE-PROXY-CANARY")
		if err != nil {
			return err
		}
		if canary {
			return iptables.Cleanup(ctx)
		}
	}
	return nil
}

// healthCheckAddresses are the node's that answer on health check node ports:
// those that take node ports.
func (f *proxyFlags) healthCheckAddresses(facts []proxyFacts) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, own := range facts {
		switch {
		case !own.node.IsValid() && own.family == corev1.IPv6Protocol:
		case f.nodePortAddresses == "" && f.mode == "nftables":
			all = append(all, own.node)
		default:
			addrs, err := proxy.NodePortAddresses(own.nodePorts)
			if err != nil {
				return nil, err
			}
			all = append(all, addrs...)
		}
	}
	return all, nil
}

// cleanupProxy removes the rules of every mode.
func cleanupProxy(ctx context.Context) error {
	return errors.Join(ipvs.Cleanup(ctx), iptables.Cleanup(ctx), nftables.Cleanup(ctx))
}
