package iptables

import "slices"

// batch is how many chains a transaction of new ones has. iptables-restore with
// nftables below looks every command's chain up in a sorted list (libiptc does
// not): 15 000 chains, of 5000 Services with two endpoints, take 7 s at once,
// and with their names in order 2 s; in batches it is 1.4 s.
const batch = 2000

// freshFirst splits the chains of a table: batches of those which the kernel
// does not have, each behind those its rules lead to, and the rest, in which
// are all that a packet can meet already. A few new ones are no batch. Within
// each the chains go by name.
func freshFirst(table *Table, known []string) (batches [][]string, rest []string) {
	seen := map[string]bool{}
	for _, chain := range known {
		seen[chain] = true
	}
	var fresh []string
	var visit func(chain string)
	visit = func(chain string) {
		if rules, ours := table.chains[chain]; ours && !seen[chain] {
			seen[chain] = true
			for _, rule := range rules {
				visit(target(" " + rule))
			}
			fresh = append(fresh, chain)
		}
	}
	for _, chain := range table.order {
		visit(chain)
	}
	if len(fresh) <= batch {
		return nil, slices.Sorted(slices.Values(table.order))
	}
	taken := map[string]bool{}
	for _, chain := range fresh {
		taken[chain] = true
	}
	rest = slices.DeleteFunc(slices.Sorted(slices.Values(table.order)), func(chain string) bool { return taken[chain] })
	for chains := range slices.Chunk(fresh, batch) {
		slices.Sort(chains)
		batches = append(batches, chains)
	}
	return batches, rest
}
