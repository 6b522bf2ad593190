package clusterip

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
)

func TestRange(t *testing.T) {
	r := NewRange(netip.MustParsePrefix("10.96.0.0/12"))
	if got := r.First().String(); got != "10.96.0.1" {
		t.Errorf("first address %s", got)
	}
	const other = "the provided network does not match the current range"
	for ip, want := range map[string]string{
		"10.96.0.0": "the provided IP (10.96.0.0) is not in the valid range. The range of valid IPs is 10.96.0.0/12",
		"10.96.0.1": "<nil>", "10.111.255.254": "<nil>",
		"10.111.255.255": "the provided IP (10.111.255.255) is not in the valid range. The range of valid IPs is 10.96.0.0/12",
		"10.112.0.1":     other, "192.0.2.1": other,
	} {
		if got := fmt.Sprint(r.Check(netip.MustParseAddr(ip))); got != want {
			t.Errorf("Check(%s) = %v, want %v", ip, got, want)
		}
	}
	low := netip.MustParseAddr("10.96.0.255")
	for range 1000 {
		ip, err := r.Pick(func(netip.Addr) bool { return false })
		if err != nil || !low.Less(ip) {
			t.Fatalf("picked %s, %v: not from the high band", ip, err)
		}
	}
}

// A small range is handed out to the last address: the high band first.
func TestPickUntilFull(t *testing.T) {
	r := NewRange(netip.MustParsePrefix("10.96.0.0/27"))
	taken := map[netip.Addr]bool{}
	border := netip.MustParseAddr("10.96.0.15")
	for i := range 30 {
		ip, err := r.Pick(func(ip netip.Addr) bool { return taken[ip] })
		if err != nil {
			t.Fatalf("address %d: %v", i, err)
		}
		if inLow := !border.Less(ip); inLow != (i >= 15) {
			t.Errorf("address %d is %s", i, ip)
		}
		taken[ip] = true
	}
	if _, err := r.Pick(func(ip netip.Addr) bool { return taken[ip] }); !errors.Is(err, ErrFull) {
		t.Errorf("31st address: %v", err)
	}
}
