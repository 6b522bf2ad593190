package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The API server's memory is its copy of all objects, and garbage. Go collects
// when there is as much garbage as GOGC says, in parts of what lives: with few
// objects that is every few megabytes, and half of the processor's time goes
// into it. With 10 000 pods the same part is most of the memory. So the part
// follows what lives:
//
//	 20 MB live   24 MB of garbage, 120 %
//	100 MB live   25 MB of garbage,  25 %
const (
	leastGarbage = 24 << 20
	leastPercent = 25
)

// boundGarbage sets when to collect next, and does so again after each collection.
func boundGarbage() {
	debug.SetGCPercent(garbagePercent(liveHeap()))
	collected := new([16]byte) // what nobody holds tells when it is collected
	runtime.SetFinalizer(collected, func(*[16]byte) { boundGarbage() })
}

func garbagePercent(live uint64) int {
	return max(leastPercent, int(100*leastGarbage/max(live, 1<<20)))
}

// liveHeap is what the last collection found in use.
func liveHeap() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
