package dns

import (
	"net/netip"
	"slices"
	"sync"
)

// index is everything the cluster's names are answered from. Queries read it
// without a lock: sync.Map's reads are atomic loads, and what they find is
// never changed. A change of one Service replaces that Service's entry alone.
type index struct {
	namespaces sync.Map // string → struct{}
	services   sync.Map // key → *records
	reverse    sync.Map // netip.Addr → []string, names without the zone: "foo.default.svc"

	mu    sync.Mutex             // held by writers
	names map[key][]reverseEntry // what each Service has in reverse, to take it out again
}

// key names a Service.
type key struct{ namespace, name string }

// reverseEntry is a PTR record: an address and its name below the zone.
type reverseEntry struct {
	addr netip.Addr
	name string
}

func newIndex() *index { return &index{names: map[key][]reverseEntry{}} }

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
	var entries []reverseEntry
	if r == nil {
		x.services.Delete(k)
	} else {
		x.services.Store(k, r)
		entries = reverseEntries(k, r)
	}
	old := x.names[k]
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
	if len(entries) == 0 {
		delete(x.names, k)
	} else {
		x.names[k] = entries
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
