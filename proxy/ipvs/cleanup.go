package ipvs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/plugins/pkg/netlinksafe"
	"github.com/vishvananda/netlink"

	"github.com/podarium/podarium/internal/iptables"
)

// Cleanup removes the rules, the sets, the virtual servers, and kube-ipvs0.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.applied = nil
	return Cleanup(ctx)
}

// Cleanup is the Backend's, for a node where none runs. The interface goes last:
// it tells that ipvs mode was here, so that a cleanup which was interrupted is
// taken up again, and a machine which never had it is left alone.
func Cleanup(ctx context.Context) error {
	link, err := netlinksafe.LinkByName(device)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find interface %s: %w", device, err)
	}
	for _, tool := range []iptables.Tool{iptables.IPv4, iptables.IPv6} {
		if tool == iptables.IPv6 && !tool.Works(ctx) {
			continue
		}
		if err := tool.Remove(ctx, []string{"filter", "nat"}, "KUBE-"); err != nil {
			return err
		}
	}
	if err := destroySets(ctx); err != nil {
		return err
	}
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.ipvs.Close()
	if err := k.ipvs.Flush(); err != nil {
		return fmt.Errorf("remove virtual servers: %w", err)
	}
	if err := netlink.LinkDel(link); err != nil {
		return fmt.Errorf("remove interface %s: %w", device, err)
	}
	return nil
}

// destroySets removes those that exist, since ipset knows no "if it does".
func destroySets(ctx context.Context) error {
	saved, err := saveSets(ctx)
	if err != nil {
		return err
	}
	var commands strings.Builder
	for _, s := range sets {
		for _, f := range []family{ipv4, ipv6} {
			if name := f.set(s.name); strings.Contains(saved, "create "+name+" ") {
				fmt.Fprintf(&commands, "destroy %s\n", name)
			}
		}
	}
	return restoreSets(ctx, commands.String())
}
