package controllers

import (
	"net/netip"
	"slices"
	"testing"
)

func TestChoosePiece(t *testing.T) {
	tests := []struct {
		node  string
		used  []int
		count int
		want  int // 0: none left
	}{
		{"node-1", nil, 256, 1},
		{"node-3", nil, 256, 3}, // joins first, and still gets its number
		{"node-3", []int{3}, 256, 1},
		{"worker", nil, 256, 1}, // no number in the name
		{"worker", []int{1, 2, 4}, 256, 3},
		{"node-0", nil, 256, 1},   // piece 0 stays unused
		{"node-300", nil, 256, 1}, // there are only 256
		{"node-9", []int{1, 2, 3}, 4, 0},
		{"node-99999999999999999999", nil, 4, 1},
	}
	for _, test := range tests {
		used := map[int]bool{}
		for _, n := range test.used {
			used[n] = true
		}
		got, ok := choosePiece(test.node, used, test.count)
		if got != test.want || ok != (test.want != 0) {
			t.Errorf("choosePiece(%s, used %v, of %d) = %d, want %d", test.node, test.used, test.count, got, test.want)
		}
	}
}

func TestCIDRSplit(t *testing.T) {
	tests := []struct {
		whole string
		bits  int
		n     int
		want  string
	}{
		{"10.244.0.0/16", 24, 1, "10.244.1.0/24"},
		{"10.244.0.0/16", 24, 255, "10.244.255.0/24"},
		{"10.244.0.0/16", 26, 5, "10.244.1.64/26"},
		{"10.0.0.0/8", 24, 257, "10.1.1.0/24"},
		{"fd00:10:244::/56", 64, 3, "fd00:10:244:3::/64"},
	}
	for _, test := range tests {
		split := cidrSplit{netip.MustParsePrefix(test.whole), test.bits}
		got := split.piece(test.n)
		if got.String() != test.want {
			t.Errorf("piece %d of %s in /%d = %s, want %s", test.n, test.whole, test.bits, got, test.want)
		}
		if back := split.overlapping(got); !slices.Equal(back, []int{test.n}) {
			t.Errorf("%s is piece %v of %s, want %d", got, back, test.whole, test.n)
		}
	}
}

func TestNodesWithPiecesOfAnotherSizeBlockAllTheyTouch(t *testing.T) {
	split := cidrSplit{netip.MustParsePrefix("10.244.0.0/16"), 24}
	if got := split.overlapping(netip.MustParsePrefix("10.244.4.0/22")); !slices.Equal(got, []int{4, 5, 6, 7}) {
		t.Errorf("10.244.4.0/22 blocks %v, want 4 to 7", got)
	}
	if got := split.overlapping(netip.MustParsePrefix("10.244.9.128/25")); !slices.Equal(got, []int{9}) {
		t.Errorf("10.244.9.128/25 blocks %v, want 9", got)
	}
	if got := split.overlapping(netip.MustParsePrefix("192.168.0.0/24")); got != nil {
		t.Errorf("a foreign range blocks %v, want nothing", got)
	}
	if got := split.overlapping(netip.MustParsePrefix("10.0.0.0/8")); len(got) != 256 {
		t.Errorf("10.0.0.0/8 blocks %d pieces, want all 256", len(got))
	}
}
