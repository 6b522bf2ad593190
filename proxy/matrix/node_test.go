package matrix

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/proxy"
	"github.com/podarium/podarium/proxy/iptables"
	"github.com/podarium/podarium/proxy/ipvs"
	"github.com/podarium/podarium/proxy/nftables"
	"github.com/podarium/podarium/proxy/userspace"
)

// TestMain lets the test binary be a node's proxy: only a process of its own is
// with all its threads in the node's namespace.
func TestMain(m *testing.M) {
	if mode := os.Getenv("MATRIX_MODE"); mode != "" {
		os.Exit(serveNode(mode, os.Getenv("MATRIX_NODE"), family(os.Getenv("MATRIX_FAMILY"))))
	}
	os.Exit(m.Run())
}

// order is what a node's proxy is told: the cluster as it is now.
type order struct {
	Flags    flags
	Restart  bool // the proxy begins anew, and finds its rules of before
	Services []*corev1.Service
	Slices   []*discoveryv1.EndpointSlice
}

// flags of the proxy which rows vary.
type flags struct {
	MasqueradeAll     bool
	NoClusterCIDR     bool
	NodePortAddresses string
}

// node is the proxy of a node, in a process of its own.
type node struct {
	family family
	in     *json.Encoder
	out    *json.Decoder
}

func startNode(t *testing.T, path, mode, name string, family family) *node {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "MATRIX_MODE="+mode, "MATRIX_NODE="+name, "MATRIX_FAMILY="+string(family))
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := netns.Do(path, cmd.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil { // it ends when its input does
			t.Errorf("proxy of %s: %v", name, err)
		}
	})
	return &node{family, json.NewEncoder(in), json.NewDecoder(out)}
}

// apply returns when the node's rules are those of the cluster.
func (n *node) apply(o order) error {
	o, err := n.family.order(o)
	if err != nil {
		return fmt.Errorf("write order for %s: %w", n.family, err)
	}
	if err := n.in.Encode(o); err != nil {
		return fmt.Errorf("give order: %w", err)
	}
	var answer string
	if err := n.out.Decode(&answer); err != nil {
		return fmt.Errorf("hear answer: %w", err)
	}
	if answer != "ok" {
		return fmt.Errorf("proxy: %s", answer)
	}
	return nil
}

// serveNode is that process. It is the real model, applier and backend; only
// the API server is missing.
func serveNode(mode, name string, family family) int {
	p := &nodeProxy{mode: mode, name: name, family: family, model: proxy.NewModel(name, corev1.IPFamily(family))}
	for _, pod := range pods {
		if pod.node == name {
			p.model.SetZone(pod.zone)
		}
	}
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var o order
		if err := in.Decode(&o); err == io.EOF {
			return 0
		} else if err != nil {
			fmt.Fprintln(os.Stderr, "read order:", err)
			return 1
		}
		answer := "ok"
		if err := p.obey(context.Background(), o); err != nil {
			answer = err.Error()
		}
		if err := out.Encode(answer); err != nil {
			return 1
		}
	}
}

type nodeProxy struct {
	mode, name string
	family     family
	model      *proxy.Model
	now        order
	backend    proxy.Backend
	applier    *proxy.Applier
	checks     *proxy.HealthChecks
}

func (p *nodeProxy) obey(ctx context.Context, o order) error {
	if err := p.begin(ctx, o); err != nil {
		return err
	}
	for _, s := range p.now.Services {
		p.model.DeleteService(proxy.ServiceName{Namespace: s.Namespace, Name: s.Name})
	}
	for _, s := range p.now.Slices {
		p.model.DeleteSlice(s)
	}
	for _, s := range o.Services {
		p.model.SetService(s)
	}
	for _, s := range o.Slices {
		p.model.SetSlice(s)
	}
	p.now = o
	if err := p.applier.Apply(ctx, p.model.Snapshot()); err != nil {
		return err
	}
	return p.applier.Settle(ctx)
}

// begin makes a backend when there is none, and when the flags are others.
func (p *nodeProxy) begin(ctx context.Context, o order) error {
	if p.backend != nil && p.now.Flags == o.Flags && !o.Restart {
		return nil
	}
	if p.backend != nil && !o.Restart {
		if err := p.backend.Cleanup(ctx); err != nil {
			return err
		}
	}
	backend, err := newBackend(p.mode, p.name, p.family, o.Flags)
	if err != nil {
		return err
	}
	if p.checks == nil {
		p.checks = proxy.NewHealthChecks(nil, func() bool { return true })
	}
	p.backend, p.applier = backend, proxy.NewApplier(corev1.IPFamily(p.family), backend, p.checks)
	return nil
}

func newBackend(mode, name string, family family, f flags) (proxy.Backend, error) {
	ip := netip.MustParseAddr(family.of(fmt.Sprint("192.168.56.", nodes[name])))
	pods := proxy.LocalPods{Range: netip.MustParsePrefix(family.of("10.244.0.0/16"))}
	if f.NoClusterCIDR {
		pods = proxy.LocalPods{}
	}
	var ranges []netip.Prefix
	if f.NodePortAddresses != "" {
		ranges = append(ranges, netip.MustParsePrefix(f.NodePortAddresses))
	}
	switch mode {
	case "iptables":
		return iptables.New(iptables.Config{
			Family: corev1.IPFamily(family), NodeIP: ip, LocalPods: pods, MasqueradeAll: f.MasqueradeAll, MasqueradeBit: 14,
			LocalhostNodePorts: true, NodePortAddresses: ranges,
		})
	case "nftables":
		return nftables.New(nftables.Config{
			Family: corev1.IPFamily(family), NodeIP: ip, LocalPods: pods, MasqueradeAll: f.MasqueradeAll, MasqueradeBit: 14,
			ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix(family.of("10.96.0.0/12"))}, NodePortAddresses: ranges,
		}), nil
	case "ipvs":
		return ipvs.New(ipvs.Config{
			Family: corev1.IPFamily(family), NodeIP: ip, LocalPods: pods, MasqueradeAll: f.MasqueradeAll, MasqueradeBit: 14,
			Scheduler: "rr", NodePortAddresses: ranges,
		})
	case "userspace":
		return userspace.New(userspace.Config{NodeIP: ip, LocalPods: pods, NodePortAddresses: ranges})
	}
	return nil, fmt.Errorf("no mode %q", mode)
}
