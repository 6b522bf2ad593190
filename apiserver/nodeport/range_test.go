package nodeport

import (
	"errors"
	"testing"
)

func TestRange(t *testing.T) {
	r := Range{30000, 32767}
	if r.LowBand() != 86 {
		t.Errorf("low band %d", r.LowBand())
	}
	if err := r.Check(80); err == nil || err.Error() != "provided port is not in the valid range. The range of valid ports is 30000-32767" {
		t.Errorf("port 80: %v", err)
	}
	taken := map[int]bool{}
	for i := range 2768 {
		port, err := r.Pick(func(p int) bool { return taken[p] })
		if err != nil || taken[port] {
			t.Fatalf("port %d: %d, %v", i, port, err)
		}
		if inLow := port < 30086; inLow != (i >= 2768-86) {
			t.Fatalf("port %d is %d", i, port)
		}
		taken[port] = true
	}
	if _, err := r.Pick(func(p int) bool { return taken[p] }); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
}
