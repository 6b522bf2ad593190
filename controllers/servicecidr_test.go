package controllers

import (
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestHoldsServiceCIDR(t *testing.T) {
	of := func(name string, deleted bool, cidrs ...string) *networkingv1.ServiceCIDR {
		c := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: cidrs}}
		if deleted {
			c.DeletionTimestamp = &metav1.Time{}
		}
		return c
	}
	used := []*networkingv1.IPAddress{{ObjectMeta: metav1.ObjectMeta{Name: "10.112.0.7"}}}
	gone := of("extra", true, "10.112.0.0/24")
	for _, c := range []struct {
		name   string
		others []*networkingv1.ServiceCIDR
		used   []*networkingv1.IPAddress
		want   bool
	}{
		{"an address is used", nil, used, true},
		{"none is used", nil, nil, false},
		{"another range covers it", []*networkingv1.ServiceCIDR{of("wide", false, "10.112.0.0/16")}, used, false},
		{"which is deleted too", []*networkingv1.ServiceCIDR{of("wide", true, "10.112.0.0/16")}, used, true},
	} {
		if got := holdsServiceCIDR(gone, append(c.others, gone), c.used); got != c.want {
			t.Errorf("%s: held %v, want %v", c.name, got, c.want)
		}
	}
}
