package apiserver

import (
	"context"
	"net/netip"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/apiserver/clusterip"
	"github.com/podarium/podarium/apiserver/resource"
)

// defaultServiceCIDR is the object that shows --service-cluster-ip-range. When
// the range runs short, further ServiceCIDRs add to it (KEP-1880).
const defaultServiceCIDR = "kubernetes"

func (s *Server) ensureServiceCIDR(ctx context.Context) error {
	kind := resource.ServiceCIDR
	obj := &networkingv1.ServiceCIDR{
		ObjectMeta: metav1.ObjectMeta{Name: defaultServiceCIDR},
		Spec:       networkingv1.ServiceCIDRSpec{CIDRs: []string{s.serviceIPs.String()}},
	}
	if err := s.ensure(ctx, kind, obj); err != nil {
		return err
	}
	_, err := s.modify(ctx, kind, "", defaultServiceCIDR, "status", writeOptions{fieldManager: ownManager}, func(current resource.Object) (resource.Object, error) {
		cidr := current.DeepCopyObject().(*networkingv1.ServiceCIDR)
		if !resource.ReadyServiceCIDR(cidr) {
			cidr.Status.Conditions = []metav1.Condition{{
				Type: networkingv1.ServiceCIDRConditionReady, Status: metav1.ConditionTrue, LastTransitionTime: metav1.Now().Rfc3339Copy(),
				Message: "Kubernetes default Service CIDR is ready",
			}}
		}
		return cidr, nil
	})
	return err
}

// serviceRanges are all ranges to allocate from, the server's own one first.
func (s *Server) serviceRanges() []clusterip.Range {
	ranges := []clusterip.Range{s.serviceIPs}
	for _, obj := range s.store.CachedList(resource.ServiceCIDR.Prefix, resource.ServiceCIDR.Prefix) {
		cidr := obj.(*networkingv1.ServiceCIDR)
		if cidr.Name == defaultServiceCIDR || cidr.DeletionTimestamp != nil || !resource.ReadyServiceCIDR(cidr) {
			continue
		}
		for _, text := range cidr.Spec.CIDRs {
			if prefix, err := netip.ParsePrefix(text); err == nil && prefix.Addr().Is4() && prefix.Bits() <= 30 {
				ranges = append(ranges, clusterip.NewRange(prefix))
			}
		}
	}
	return ranges
}

func (s *Server) pickServiceIP(taken func(netip.Addr) bool) (ip netip.Addr, err error) {
	for _, r := range s.serviceRanges() {
		if ip, err = r.Pick(taken); err == nil {
			return ip, nil
		}
	}
	return ip, err
}

func (s *Server) checkServiceIP(ip netip.Addr) error {
	var err error
	for _, r := range s.serviceRanges() {
		if err = r.Check(ip); err == nil {
			return nil
		}
	}
	return err
}
