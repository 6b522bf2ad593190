package userspace

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/podarium/podarium/internal/iptables"
	"github.com/podarium/podarium/proxy"
)

// Backend is userspace mode: portals, and the rules that lead to them. When it
// ends its portals are gone, and Services with them, until it is back.
type Backend struct {
	cfg     Config
	portals map[portalKey]*portal
	most    int // portals
	applied *iptables.Ruleset
}

// New is a backend without portals. Node ports on 127.0.0.1 need route_localnet,
// for their packets get the node's address as destination.
func New(cfg Config) (*Backend, error) {
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/all/route_localnet", []byte("1"), 0o644); err != nil {
		return nil, fmt.Errorf("let node ports answer on 127.0.0.1: %w", err)
	}
	return &Backend{cfg: cfg, portals: map[portalKey]*portal{}, most: mostPortals()}, nil
}

// Sync opens the portals that are missing, leads packets to them, and closes
// those nobody is led to any more. A Service that gets no portal does not answer
// until another try has one for it; the others are carried.
func (b *Backend) Sync(ctx context.Context, snapshot *proxy.Snapshot) error {
	began := time.Now()
	doors, missing := b.openPortals(snapshot)
	if err := b.applyRules(ctx, plan(snapshot, b.cfg, doors)); err != nil {
		return err
	}
	for key, p := range b.portals {
		if _, ok := doors[key]; !ok {
			p.close()
			delete(b.portals, key)
		}
	}
	slog.Info("rules applied", "servicePorts", len(snapshot.Ports), "endpoints", snapshot.Endpoints,
		"portals", len(b.portals), "elapsed", time.Since(began).Round(time.Microsecond))
	return missing
}

// openPortals gives each Service port its portals: one for each traffic policy
// by which it has endpoints. The error is about those that have none.
func (b *Backend) openPortals(snapshot *proxy.Snapshot) (doors map[portalKey]uint16, missing error) {
	doors = map[portalKey]uint16{}
	without := 0
	for _, port := range snapshot.Ports {
		for key, endpoints := range map[portalKey][]*proxy.Endpoint{
			{port.Name, false}: port.ClusterEndpoints,
			{port.Name, true}:  port.LocalEndpoints,
		} {
			if len(endpoints) == 0 || port.LowerProtocol() == "sctp" {
				continue
			}
			p, err := b.portal(key, port.LowerProtocol())
			if err != nil {
				without++
				missing = fmt.Errorf("%d portals are missing, such as that of %s: %w", without, port.Name, err)
				continue
			}
			p.set(addresses(endpoints), port.AffinityTimeout)
			doors[key] = p.port
		}
	}
	return doors, missing
}

// portal is one that is open already, or a new one.
func (b *Backend) portal(key portalKey, protocol string) (*portal, error) {
	if p := b.portals[key]; p != nil {
		return p, nil
	}
	if len(b.portals) >= b.most {
		return nil, fmt.Errorf("%d are open, and the rest of the files that may be open (ulimit -n) is for connections", b.most)
	}
	p, err := openPortal(protocol)
	if err == nil {
		b.portals[key] = p
	}
	return p, err
}

func addresses(endpoints []*proxy.Endpoint) []netip.AddrPort {
	list := make([]netip.AddrPort, len(endpoints))
	for i, e := range endpoints {
		list[i] = e.Address
	}
	return list
}

func (b *Backend) applyRules(ctx context.Context, wanted *iptables.Ruleset) error {
	var text []byte
	nodePorts, err := proxy.NodePortAddresses(b.cfg.NodePortAddresses)
	if err != nil {
		return err
	}
	if b.applied != nil {
		text = iptables.Difference(b.applied, wanted)
	} else {
		saved := map[string]string{}
		for _, table := range wanted.Tables {
			out, err := iptables.IPv4.Save(ctx, table.Name)
			if err != nil {
				return err
			}
			saved[table.Name] = string(out)
		}
		text = iptables.Everything(wanted, saved, jumps(nodePorts), func(string) bool { return false })
	}
	if len(text) == 0 {
		return nil
	}
	b.applied = nil // until we know better
	if err := iptables.IPv4.Restore(ctx, text); err != nil {
		return fmt.Errorf("apply rules: %w", err)
	}
	b.applied = wanted
	return nil
}

// Check looks for the canaries.
func (b *Backend) Check(ctx context.Context) (bool, error) {
	for _, table := range []string{"filter", "nat"} {
		_, intact, err := iptables.IPv4.List(ctx, table, canaryChain)
		if err != nil {
			return false, err
		}
		if !intact {
			b.applied = nil
			return false, nil
		}
	}
	return true, nil
}
