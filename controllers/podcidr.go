package controllers

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// podCIDRs gives each node its piece of the pods' address space: spec.podCIDR, from which the CNI
// plugin on that node takes the addresses of its pods. With --cluster-cidr=10.244.0.0/16 and
// --node-cidr-mask-size=24 there are 256 pieces of 254 addresses.
//
// Piece 0 (10.244.0.0/24) stays unused, so that the numbers match: node-1 has 10.244.1.0/24, node-3 has
// 10.244.3.0/24 although it may join first. Nodes whose name says no number, or a number which is taken,
// get the lowest free piece.
type podCIDRs struct {
	client kubernetes.Interface
	nodes  corelisters.NodeLister
	events record.EventRecorder
	split  cidrSplit
	given  map[string]int // node → piece, while the cache may not show it yet; one worker, so no lock
}

func nodeIPAM(c *cluster) loop {
	if !c.AllocateNodeCIDRs {
		return nil
	}
	nodes := c.informers.Core().V1().Nodes()
	p := &podCIDRs{
		client: c.client, nodes: nodes.Lister(), events: c.eventsFrom("cidrAllocator"),
		split: cidrSplit{c.ClusterCIDR, c.NodeCIDRMaskSize}, given: map[string]int{},
	}
	queue := reconcile.New("node-ipam", p.sync)
	kube.OnChange(nodes.Informer(), func(was, is *corev1.Node) {
		switch {
		case is == nil:
			queue.Add(was.Name) // forgets what was given
			p.requeueWaiting(queue)
		case is.Spec.PodCIDR == "":
			queue.Add(is.Name)
		}
	})
	return func(ctx context.Context) { queue.Run(ctx, 1) }
}

// requeueWaiting lets nodes which came away empty-handed try again when a piece has become free.
func (p *podCIDRs) requeueWaiting(queue *reconcile.Queue[string]) {
	nodes, _ := p.nodes.List(everything)
	for _, node := range nodes {
		if node.Spec.PodCIDR == "" {
			queue.Add(node.Name)
		}
	}
}

func (p *podCIDRs) sync(ctx context.Context, name string) error {
	node, err := p.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		delete(p.given, name)
		return nil
	}
	if err != nil || node.Spec.PodCIDR != "" {
		return err
	}
	piece, ok := p.given[name]
	if !ok {
		if piece, ok = choosePiece(name, p.used(), p.split.count()); !ok {
			p.events.Eventf(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: CIDRNotAvailable", name)
			slog.Warn("no pod CIDR left, use a larger --cluster-cidr", "node", name, "cluster cidr", p.split.whole, "pieces", p.split.count())
			return nil // tried again when a node goes away
		}
		p.given[name] = piece
	}
	return p.assign(ctx, node, p.split.piece(piece))
}

// assign writes the piece, unless the node has changed since we looked (resourceVersion): then the
// write is refused, and the queue tries again with the newer node.
func (p *podCIDRs) assign(ctx context.Context, node *corev1.Node, cidr netip.Prefix) error {
	patch := mustJSON(map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"podCIDR": cidr.String(), "podCIDRs": []string{cidr.String()}},
	})
	if _, err := p.client.CoreV1().Nodes().Patch(ctx, node.Name, merge, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("give pod CIDR %s to node %s: %w", cidr, node.Name, err)
	}
	slog.Info("gave node its pod CIDR", "node", node.Name, "cidr", cidr)
	return nil
}

// used is what nodes hold: learnt from the nodes themselves, so a restart needs no memory of its own.
func (p *podCIDRs) used() map[int]bool {
	used := map[int]bool{}
	for piece := range maps.Values(p.given) {
		used[piece] = true
	}
	nodes, _ := p.nodes.List(everything)
	for _, node := range nodes {
		for _, text := range slices.Compact(append([]string{node.Spec.PodCIDR}, node.Spec.PodCIDRs...)) {
			if cidr, err := netip.ParsePrefix(text); err == nil {
				for _, piece := range p.split.overlapping(cidr) {
					used[piece] = true
				}
			}
		}
	}
	return used
}

// choosePiece is the policy: the number at the end of the node's name when free, else the lowest free.
func choosePiece(node string, used map[int]bool, count int) (int, bool) {
	digits := node[len(strings.TrimRight(node, "0123456789")):]
	if n, err := strconv.Atoi(digits); err == nil && n > 0 && n < count && !used[n] {
		return n, true
	}
	for n := 1; n < count; n++ {
		if !used[n] {
			return n, true
		}
	}
	return 0, false
}

// cidrSplit cuts a prefix into numbered pieces of bits length.
type cidrSplit struct {
	whole netip.Prefix
	bits  int
}

// count is the number of pieces, 65536 at most, as upstream limits it.
func (s cidrSplit) count() int { return 1 << min(16, max(0, s.bits-s.whole.Bits())) }

// piece n of 10.244.0.0/16 in /24 is 10.244.n.0/24.
func (s cidrSplit) piece(n int) netip.Prefix {
	base := s.whole.Masked().Addr()
	number := new(big.Int).SetBytes(base.AsSlice())
	offset := new(big.Int).Lsh(big.NewInt(int64(n)), uint(base.BitLen()-s.bits))
	addr, _ := netip.AddrFromSlice(number.Add(number, offset).FillBytes(make([]byte, base.BitLen()/8)))
	return netip.PrefixFrom(addr, s.bits)
}

// overlapping lists the pieces which share an address with cidr: one, unless the mask size was changed
// while nodes held pieces of another size.
func (s cidrSplit) overlapping(cidr netip.Prefix) []int {
	if !s.whole.Overlaps(cidr) {
		return nil
	}
	if cidr.Bits() >= s.bits {
		return []int{s.number(cidr.Addr())}
	}
	first := s.number(cidr.Masked().Addr())
	if cidr.Bits() <= s.whole.Bits() {
		first = 0
	}
	last := min(s.count(), first+1<<min(16, s.bits-max(cidr.Bits(), s.whole.Bits())))
	var pieces []int
	for n := first; n < last; n++ {
		pieces = append(pieces, n)
	}
	return pieces
}

func (s cidrSplit) number(addr netip.Addr) int {
	base := new(big.Int).SetBytes(s.whole.Masked().Addr().AsSlice())
	distance := new(big.Int).Sub(new(big.Int).SetBytes(addr.AsSlice()), base)
	return int(distance.Rsh(distance, uint(addr.BitLen()-s.bits)).Int64())
}
