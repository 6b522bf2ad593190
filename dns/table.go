package dns

import (
	"hash/maphash"
	"maps"
	"sync/atomic"
)

// tableShards is how many small maps a table is made of. At 10 000 Services,
// some 40 000 names, each holds ten: little to copy when one of them changes.
const tableShards = 4096

// table maps names to what they answer: lower case, in wire format
// ("\x03web\x07default\x03svc\x07cluster\x05local\x00"). Readers take no lock:
// a shard is a map which is never changed, only replaced by a changed copy, so
// a change costs one small copy however many names there are.
type table struct {
	seed   maphash.Seed
	shards [tableShards]atomic.Pointer[map[string]*entry]
}

func newTable() *table { return &table{seed: maphash.MakeSeed()} }

// lookup finds a name, or nil. It does not allocate.
func (t *table) lookup(name []byte) *entry {
	if shard := t.shards[maphash.Bytes(t.seed, name)%tableShards].Load(); shard != nil {
		return (*shard)[string(name)]
	}
	return nil
}

// set gives a name its entry; nil removes it. One writer at a time.
func (t *table) set(name string, e *entry) {
	shard := &t.shards[maphash.String(t.seed, name)%tableShards]
	changed := map[string]*entry{}
	if before := shard.Load(); before != nil {
		changed = maps.Clone(*before)
	}
	if e == nil {
		delete(changed, name)
	} else {
		changed[name] = e
	}
	shard.Store(&changed)
}
