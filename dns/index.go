package dns

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// index is everything the cluster's names are answered from. Queries read it
// without a lock: what they find is never changed, only replaced. A change of
// one Service replaces that Service's entries alone.
type index struct {
	zone       string   // "cluster.local."
	wireZone   []byte   // the same in wire format, for wire.go
	wirePods   []byte   // "pod.cluster.local."
	packed     *table   // name → ready answers: what nearly every query needs
	services   sync.Map // key → *records
	namespaces sync.Map // string → struct{}
	reverse    sync.Map // netip.Addr → []string, names without the zone: "foo.default.svc"
	serial     atomic.Uint32

	mu sync.Mutex // held by writers
}

// reverseEntry is a PTR record: an address and its name below the zone.
type reverseEntry struct {
	addr netip.Addr
	name string
}

// newIndex knows the zone (cluster.local.) and no Service.
func newIndex(zone string) *index {
	x := &index{zone: zone, packed: newTable()}
	x.wireZone, x.wirePods = []byte(wireName(zone)), []byte(wireName("pod."+zone))
	for _, name := range []string{"svc." + zone, "pod." + zone} {
		x.packed.set(wireName(name), exists)
	}
	for _, name := range []string{zone, "dns-version." + zone} {
		x.packed.set(wireName(name), &entry{composed: true})
	}
	return x
}

func (x *index) lookup(k key) *records {
	if r, ok := x.services.Load(k); ok {
		return r.(*records)
	}
	return nil
}

func (x *index) hasNamespace(name string) bool {
	_, ok := x.namespaces.Load(name)
	return ok
}

// setNamespace makes NS.svc.ZONE and NS.pod.ZONE exist, or not.
func (x *index) setNamespace(name string, there bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var e *entry
	if there {
		x.namespaces.Store(name, struct{}{})
		e = exists
	} else {
		x.namespaces.Delete(name)
	}
	x.packed.set(wireName(name+".svc."+x.zone), e)
	x.packed.set(wireName(name+".pod."+x.zone), e)
	x.serial.Add(1)
}

// namesOf are the names an address has, for PTR.
func (x *index) namesOf(addr netip.Addr) []string {
	if names, ok := x.reverse.Load(addr); ok {
		return names.([]string)
	}
	return nil
}

// set replaces what a Service means; nil forgets it.
func (x *index) set(k key, r *records) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.serial.Add(1)
	before := x.lookup(k)
	if r == nil {
		x.services.Delete(k)
	} else {
		x.services.Store(k, r)
	}
	x.setPacked(k, before, r)
	x.setReverse(k, before, r)
}

// setPacked replaces the ready answers: first come the new ones, so that a
// name which stays is never missing.
func (x *index) setPacked(k key, before, r *records) {
	var names map[string][]uint16
	if r != nil {
		names = x.names(k, r)
	}
	for name, types := range names {
		x.packed.set(wireName(name), x.pack(name, r, types))
	}
	if before == nil {
		return
	}
	for name := range x.names(k, before) {
		if _, stays := names[name]; !stays {
			x.packed.set(wireName(name), nil)
		}
	}
}

// setReverse replaces the addresses' names.
func (x *index) setReverse(k key, before, r *records) {
	old, entries := reverseEntries(k, before), reverseEntries(k, r)
	for _, e := range old {
		if !slices.Contains(entries, e) {
			x.changeReverse(e.addr, func(names []string) []string {
				return slices.DeleteFunc(names, func(n string) bool { return n == e.name })
			})
		}
	}
	for _, e := range entries {
		if !slices.Contains(old, e) {
			x.changeReverse(e.addr, func(names []string) []string { return append(names, e.name) })
		}
	}
}

// changeReverse replaces the names of one address; readers keep the old slice.
func (x *index) changeReverse(addr netip.Addr, change func([]string) []string) {
	names := change(slices.Clone(x.namesOf(addr)))
	if len(names) == 0 {
		x.reverse.Delete(addr)
		return
	}
	slices.Sort(names)
	x.reverse.Store(addr, names)
}

// reverseEntries: a ClusterIP is the Service (§2.3.3), the address of a
// headless Service's endpoint is that endpoint (§2.4.3).
func reverseEntries(k key, r *records) []reverseEntry {
	base := k.name + "." + k.namespace + ".svc"
	var entries []reverseEntry
	if r == nil {
		return nil
	}
	if r.hosts == nil {
		for _, addr := range r.addrs {
			entries = append(entries, reverseEntry{addr, base})
		}
		return entries
	}
	for host, addrs := range r.hosts {
		for _, addr := range addrs {
			entries = append(entries, reverseEntry{addr, host + "." + base})
		}
	}
	return entries
}
