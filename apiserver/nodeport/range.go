// Package nodeport chooses the node ports of Services.
//
// The range 30000-32767 has two bands like that of the ClusterIPs: 30000-30085
// for ports that people write into manifests, the rest for those the server
// chooses (KEP-3668).
//
// A port is taken when there is a key /registry/nodeports/30080; it is written
// in one etcd transaction with the Service. One Service may use a port for TCP
// and for UDP; two Services never share one.
package nodeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
)

// The reasons why a port cannot be had, in upstream's words.
var (
	ErrAllocated = errors.New("provided port is already allocated")
	ErrFull      = errors.New("range is full")
)

// Range is the range of node ports, both ends included.
type Range struct{ First, Last int }

// LowBand is the number of ports kept for people to choose: a 32nd of the
// range, at least 16 and at most 128.
func (r Range) LowBand() int {
	size := r.Last - r.First + 1
	if size < 16 {
		return 0
	}
	return min(max(16, size/32), 128)
}

// Check tells whether port may be a node port at all.
func (r Range) Check(port int) error {
	if port < r.First || port > r.Last {
		return fmt.Errorf("provided port is not in the valid range. The range of valid ports is %d-%d", r.First, r.Last)
	}
	return nil
}

// Pick chooses a port that is not taken: at random in the high band, else in
// the low one.
func (r Range) Pick(taken func(int) bool) (int, error) {
	border := r.First + r.LowBand()
	if port, ok := search(border, r.Last+1, taken); ok {
		return port, nil
	}
	if port, ok := search(r.First, border, taken); ok {
		return port, nil
	}
	return 0, ErrFull
}

func search(from, to int, taken func(int) bool) (int, bool) {
	n := to - from
	if n <= 0 {
		return 0, false
	}
	start := rand.IntN(n)
	for i := range n {
		if port := from + (start+i)%n; !taken(port) {
			return port, true
		}
	}
	return 0, false
}
