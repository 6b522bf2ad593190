package ipvs

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// contents are the elements of each set.
type contents map[string]map[string]bool

func newContents() contents {
	c := contents{}
	for _, s := range sets {
		c[s.name] = map[string]bool{}
	}
	return c
}

// createSets is what `ipset restore` needs to make the sets that are not there.
func (f family) createSets() string {
	var text strings.Builder
	for _, s := range sets {
		options := "family " + f.sets + " hashsize 1024 maxelem 65536"
		if s.kind == bitmapPort {
			options = "range 0-65535"
		}
		fmt.Fprintf(&text, "create %s %s %s\n", f.set(s.name), s.kind, options)
	}
	return text.String()
}

// setSteps are what leads from one content to another, in two parts: elements
// come before the virtual servers they are for, and go after them.
func (f family) setSteps(have, want contents) (add, del string) {
	var adds, dels strings.Builder
	for _, s := range sets {
		for _, element := range slices.Sorted(maps.Keys(want[s.name])) {
			if !have[s.name][element] {
				fmt.Fprintf(&adds, "add %s %s\n", f.set(s.name), element)
			}
		}
		for _, element := range slices.Sorted(maps.Keys(have[s.name])) {
			if !want[s.name][element] {
				fmt.Fprintf(&dels, "del %s %s\n", f.set(s.name), element)
			}
		}
	}
	return adds.String(), dels.String()
}

// parseSets reads `ipset save`; sets of others are left out.
func (f family) parseSets(saved string) contents {
	have, names := newContents(), map[string]string{}
	for _, s := range sets {
		names[f.set(s.name)] = s.name
	}
	for line := range strings.Lines(saved) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "add" || names[fields[1]] == "" {
			continue
		}
		name, element := names[fields[1]], fields[2]
		if name == sourceCIDRSet && !strings.Contains(element, "/") {
			element += f.host // ipset leaves that out
		}
		have[name][element] = true
	}
	return have
}

// save is `ipset save` without the create lines, in order.
func (f family) save(c contents) string {
	add, _ := f.setSteps(newContents(), c)
	return add
}
