package controllers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// nodeHealth notices that a node has fallen silent, and draws the consequences.
//
// A kubelet renews its Lease in kube-node-lease every ten seconds. When neither the Lease nor the node's
// status has moved for --node-monitor-grace-period (50 s), this controller writes Ready=Unknown into the
// node in the kubelet's stead: kubectl shows NotReady. From the conditions follow
//
//   - taints: not-ready or unreachable, so that no new pods come (NoSchedule) and, after the time which a
//     pod tolerates, the old ones are evicted (NoExecute; tainteviction.go);
//   - Ready=False on its pods, so that Services stop sending there. This is at once, evictions wait.
//
// Nothing polls: each heartbeat sets the timer of its node to the moment when the grace period would end.
type nodeHealth struct {
	client kubernetes.Interface
	nodes  corelisters.NodeLister
	leases coordinationlisters.LeaseNamespaceLister
	pods   podCache
	events record.EventRecorder
	queue  *reconcile.Queue[string]
	grace  time.Duration

	mu    sync.Mutex
	beats map[string]heartbeat
}

// heartbeat is the last sign of life of a node: what it said, and when we saw that by our own clock. The
// node's clock may be wrong; only that its times move is used.
type heartbeat struct {
	lease, status metav1.MicroTime
	seen          time.Time
}

func nodeLifecycle(c *cluster) loop {
	nodes := c.informers.Core().V1().Nodes()
	inLeaseNamespace := informers.NewSharedInformerFactoryWithOptions(c.client, 0,
		informers.WithTransform(trim), informers.WithNamespace(corev1.NamespaceNodeLease))
	leases := inLeaseNamespace.Coordination().V1().Leases()
	h := &nodeHealth{
		client: c.client, nodes: nodes.Lister(), leases: leases.Lister().Leases(corev1.NamespaceNodeLease), pods: c.pods(),
		events: c.eventsFrom("node-controller"), grace: c.NodeMonitorGracePeriod, beats: map[string]heartbeat{},
	}
	h.queue = reconcile.New("node-lifecycle", h.sync)
	kube.OnChange(nodes.Informer(), func(was, is *corev1.Node) {
		h.queue.Add(either(was, is).Name)
		if was == nil || is == nil || nodeReady(was) != nodeReady(is) {
			h.requeueAll() // whether evictions are right depends on the other nodes, see allSilent
		}
	})
	kube.OnChange(leases.Informer(), func(was, is *coordinationv1.Lease) { h.queue.Add(either(was, is).Name) })
	return func(ctx context.Context) {
		inLeaseNamespace.StartWithContext(ctx)
		inLeaseNamespace.WaitForCacheSyncWithContext(ctx)
		h.queue.Run(ctx, 4)
	}
}

func (h *nodeHealth) requeueAll() {
	nodes, _ := h.nodes.List(everything)
	for _, node := range nodes {
		h.queue.Add(node.Name)
	}
}

func (h *nodeHealth) sync(ctx context.Context, name string) error {
	node, err := h.nodes.Get(name)
	if apierrors.IsNotFound(err) {
		h.mu.Lock()
		delete(h.beats, name)
		h.mu.Unlock()
		return nil
	}
	if err != nil {
		return err
	}
	now := time.Now()
	silentFor := now.Sub(h.lastBeat(node, now))
	if silentFor < h.grace {
		h.queue.AddAfter(name, h.grace-silentFor)
	} else if conditions := silentConditions(node, now); conditions != nil {
		if node, err = h.declareSilent(ctx, node, conditions, silentFor); err != nil {
			return err
		}
	}
	return errors.Join(h.writeTaints(ctx, node, now), h.markPods(ctx, node))
}

// lastBeat notes what the node says now, and returns when it last said something new. A node we see for the
// first time, as after our own restart, gets a whole grace period.
func (h *nodeHealth) lastBeat(node *corev1.Node, now time.Time) time.Time {
	var said heartbeat
	if lease, err := h.leases.Get(node.Name); err == nil && lease.Spec.RenewTime != nil {
		said.lease = *lease.Spec.RenewTime
	}
	if ready := nodeCondition(node, corev1.NodeReady); ready != nil {
		said.status = metav1.NewMicroTime(ready.LastHeartbeatTime.Time)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before, known := h.beats[node.Name]
	if known && before.lease.Equal(&said.lease) && before.status.Equal(&said.status) {
		return before.seen
	}
	said.seen = now
	h.beats[node.Name] = said
	return now
}

func (h *nodeHealth) declareSilent(ctx context.Context, node *corev1.Node, conditions []corev1.NodeCondition, silentFor time.Duration) (*corev1.Node, error) {
	patch := mustJSON(map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"status":   map[string]any{"conditions": conditions},
	})
	written, err := h.client.CoreV1().Nodes().Patch(ctx, node.Name, strategicMerge, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("write conditions of silent node %s: %w", node.Name, err)
	}
	slog.Info("node is silent", "node", node.Name, "for", silentFor.Round(time.Second))
	h.events.Eventf(nodeReference(node), corev1.EventTypeNormal, "NodeNotReady", "Node %s status is now: NodeNotReady", node.Name)
	return written, nil
}

// nodeReference: events about nodes carry the name as UID, so that those of the kubelet, which does not
// know the UID at first, and ours are shown together by kubectl describe.
func nodeReference(node *corev1.Node) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", Name: node.Name, UID: node.UID, APIVersion: "v1"}
}

func (h *nodeHealth) writeTaints(ctx context.Context, node *corev1.Node, now time.Time) error {
	all, err := h.nodes.List(everything)
	if err != nil {
		return err
	}
	wanted, changed := desiredTaints(node, !allSilent(node, all), now)
	if !changed {
		return nil
	}
	patch := mustJSON(map[string]any{
		"metadata": map[string]any{"uid": node.UID, "resourceVersion": node.ResourceVersion},
		"spec":     map[string]any{"taints": wanted},
	})
	if _, err := h.client.CoreV1().Nodes().Patch(ctx, node.Name, merge, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("write taints of node %s: %w", node.Name, err)
	}
	slog.Info("changed taints", "node", node.Name, "taints", taintNames(wanted))
	return nil
}

// markPods turns the pods of a node which is not ready into pods which are not ready.
func (h *nodeHealth) markPods(ctx context.Context, node *corev1.Node) error {
	if ready := nodeCondition(node, corev1.NodeReady); ready == nil || ready.Status == corev1.ConditionTrue {
		return nil
	}
	var errs []error
	for _, pod := range h.pods.onNode(node.Name) {
		if !podReady(pod) {
			continue
		}
		condition := *podCondition(pod, corev1.PodReady)
		condition.Status = corev1.ConditionFalse
		if err := setPodCondition(ctx, h.client, pod, condition); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
			continue
		}
		h.events.Event(pod, corev1.EventTypeWarning, "NodeNotReady", "Node is not ready")
	}
	return errors.Join(errs...)
}
