package main

import "testing"

func TestGarbagePercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0:         2400, // before the first collection
		20 << 20:  120,
		96 << 20:  25,
		500 << 20: 25,
	} {
		if got := garbagePercent(live); got != want {
			t.Errorf("%d MB live: %d %%, want %d", live>>20, got, want)
		}
	}
}
