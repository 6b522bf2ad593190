package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	networkinglisters "k8s.io/client-go/listers/networking/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/reconcile"
)

// serviceCIDRController guards the ranges from which Services get their addresses (KEP-1880). API servers
// allocate from a range which is Ready. A range that is deleted stays, and is not Ready, as long as a
// Service has one of its addresses which no other range covers.
type serviceCIDRController struct {
	client    kubernetes.Interface
	ranges    networkinglisters.ServiceCIDRLister
	addresses networkinglisters.IPAddressLister
	queue     *reconcile.Queue[string]
}

const serviceCIDRFinalizer = "networking.k8s.io/service-cidr-finalizer"

// lastAllocations is how long API servers may take to notice that a range is being deleted.
const lastAllocations = 10 * time.Second

func serviceCIDRs(c *cluster) loop {
	ranges, addresses := c.informers.Networking().V1().ServiceCIDRs(), c.informers.Networking().V1().IPAddresses()
	s := &serviceCIDRController{client: c.client, ranges: ranges.Lister(), addresses: addresses.Lister()}
	s.queue = reconcile.New("servicecidr", s.sync)
	everyRange := func() {
		all, _ := s.ranges.List(everything)
		for _, each := range all {
			if each.DeletionTimestamp != nil {
				s.queue.Add(each.Name)
			}
		}
	}
	kube.OnChange(ranges.Informer(), func(was, is *networkingv1.ServiceCIDR) {
		s.queue.Add(either(was, is).Name)
		everyRange() // a new range may cover what holds a deleted one
	})
	kube.OnChange(addresses.Informer(), func(_, is *networkingv1.IPAddress) {
		if is == nil {
			everyRange()
		}
	})
	return func(ctx context.Context) { s.queue.Run(ctx, 1) }
}

func (s *serviceCIDRController) sync(ctx context.Context, name string) error {
	cidr, err := s.ranges.Get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if cidr.DeletionTimestamp == nil {
		if err := s.setFinalizer(ctx, cidr, true); err != nil {
			return err
		}
		return s.setReady(ctx, cidr, metav1.Condition{Status: metav1.ConditionTrue, Message: "Kubernetes Service CIDR is ready"})
	}
	ranges, err := s.ranges.List(everything)
	if err != nil {
		return err
	}
	addresses, err := s.addresses.List(everything)
	if err != nil {
		return err
	}
	if holdsServiceCIDR(cidr, ranges, addresses) {
		return s.setReady(ctx, cidr, metav1.Condition{
			Status: metav1.ConditionFalse, Reason: networkingv1.ServiceCIDRReasonTerminating,
			Message: "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
		})
	}
	if wait := time.Until(cidr.DeletionTimestamp.Add(lastAllocations)); wait > 0 {
		s.queue.AddAfter(name, wait)
		return nil
	}
	return s.setFinalizer(ctx, cidr, false)
}

// holdsServiceCIDR: some address lies in this range and in no other that stays.
func holdsServiceCIDR(cidr *networkingv1.ServiceCIDR, ranges []*networkingv1.ServiceCIDR, addresses []*networkingv1.IPAddress) bool {
	for _, address := range addresses {
		ip, err := netip.ParseAddr(address.Name)
		if err != nil || !inServiceCIDR(cidr, ip) {
			continue
		}
		if !slices.ContainsFunc(ranges, func(other *networkingv1.ServiceCIDR) bool {
			return other.Name != cidr.Name && other.DeletionTimestamp == nil && inServiceCIDR(other, ip)
		}) {
			return true
		}
	}
	return false
}

func inServiceCIDR(cidr *networkingv1.ServiceCIDR, ip netip.Addr) bool {
	return slices.ContainsFunc(cidr.Spec.CIDRs, func(text string) bool {
		prefix, err := netip.ParsePrefix(text)
		return err == nil && prefix.Contains(ip)
	})
}

func (s *serviceCIDRController) setFinalizer(ctx context.Context, cidr *networkingv1.ServiceCIDR, want bool) error {
	if slices.Contains(cidr.Finalizers, serviceCIDRFinalizer) == want {
		return nil
	}
	field := "finalizers"
	if !want {
		field = "$deleteFromPrimitiveList/finalizers"
	}
	patch := mustJSON(map[string]any{"metadata": map[string]any{"uid": cidr.UID, field: []string{serviceCIDRFinalizer}}})
	_, err := s.client.NetworkingV1().ServiceCIDRs().Patch(ctx, cidr.Name, strategicMerge, patch, metav1.PatchOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("set finalizer of ServiceCIDR %s: %w", cidr.Name, err)
	}
	return nil
}

// setReady writes the condition. One which is as wanted keeps its text: the API server words that of its
// own range differently.
func (s *serviceCIDRController) setReady(ctx context.Context, cidr *networkingv1.ServiceCIDR, condition metav1.Condition) error {
	condition.Type = networkingv1.ServiceCIDRConditionReady
	if meta.IsStatusConditionPresentAndEqual(cidr.Status.Conditions, condition.Type, condition.Status) {
		return nil
	}
	changed := cidr.DeepCopy()
	meta.SetStatusCondition(&changed.Status.Conditions, condition)
	if equality.Semantic.DeepEqual(cidr.Status, changed.Status) {
		return nil
	}
	patch := mustJSON(map[string]any{"metadata": map[string]any{"uid": cidr.UID}, "status": changed.Status})
	_, err := s.client.NetworkingV1().ServiceCIDRs().Patch(ctx, cidr.Name, strategicMerge, patch, metav1.PatchOptions{}, "status")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("set condition of ServiceCIDR %s: %w", cidr.Name, err)
	}
	return nil
}
