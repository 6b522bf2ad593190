package kubelet

import (
	"context"
	"log/slog"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	leaseNamespace       = "kube-node-lease"
	defaultLeaseDuration = 40 * time.Second
)

// heartbeat renews the node's Lease. When nobody does for 40 s, the node lifecycle controller takes the
// node for lost.
func (k *Kubelet) heartbeat(ctx context.Context, n *node) {
	duration := k.cfg.LeaseDuration
	if duration == 0 {
		duration = defaultLeaseDuration
	}
	var lease *coordinationv1.Lease
	var retry quickRetry
	for {
		var err error
		if lease, err = k.renewLease(ctx, n, lease, duration); err != nil {
			slog.Debug("Renewing lease", "error", err)
			lease = nil
			if !sleep(ctx, min(retry.next(), duration/4)) {
				return
			}
			continue
		}
		retry.reset()
		if !sleep(ctx, duration/4) {
			return
		}
	}
}

// renewLease writes the present time into the lease; nil reads it first, and makes it if there is none.
func (k *Kubelet) renewLease(ctx context.Context, n *node, lease *coordinationv1.Lease, duration time.Duration) (*coordinationv1.Lease, error) {
	leases := k.client.CoordinationV1().Leases(leaseNamespace)
	seconds, now := int32(duration/time.Second), metav1.NowMicro()
	if lease == nil {
		var err error
		lease, err = leases.Get(ctx, k.cfg.NodeName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return leases.Create(ctx, &coordinationv1.Lease{
				ObjectMeta: metav1.ObjectMeta{Name: k.cfg.NodeName, Namespace: leaseNamespace, OwnerReferences: n.owner()},
				Spec:       coordinationv1.LeaseSpec{HolderIdentity: &k.cfg.NodeName, LeaseDurationSeconds: &seconds, RenewTime: &now},
			}, metav1.CreateOptions{})
		}
		if err != nil {
			return nil, err
		}
	}
	lease = lease.DeepCopy()
	if len(lease.OwnerReferences) == 0 {
		lease.OwnerReferences = n.owner()
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &k.cfg.NodeName, &seconds, &now
	return leases.Update(ctx, lease, metav1.UpdateOptions{})
}

// owner makes the lease go with its Node.
func (n *node) owner() []metav1.OwnerReference {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.registered == nil {
		return nil
	}
	return []metav1.OwnerReference{{
		APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Node", Name: n.registered.Name, UID: n.registered.UID,
	}}
}
