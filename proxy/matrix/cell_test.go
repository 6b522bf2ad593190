package matrix

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// cells are what is expected, in the order of the columns. A cell is one of
//
//	pod-b saw pod-a                      this answer, always
//	pod-b saw pod-a | pod-d saw pod-a    each of these, now and then
//	same: pod-b … | pod-d …              one of these, always the same
//	refused, no answer, unreachable
type cells [4]string

// columns are who asks.
var columns = [4]struct{ name, host string }{
	{"pod same node", "pod-a"},
	{"pod other node", "pod-c"},
	{"node itself", "node-1"},
	{"outside client", "client"},
}

// check asks until the cell has been seen to be right, or is wrong.
func check(want string, ask func(time.Duration) string) error {
	same, sticky := strings.CutPrefix(want, "same: ")
	answers := strings.Split(same, " | ")
	wait := patience
	if slices.Contains(answers, "no answer") {
		wait = silence
	}
	first := ask(wait)
	if !slices.Contains(answers, first) {
		return fmt.Errorf("%s, want %s", first, want)
	}
	if len(answers) == 1 {
		return nil
	}
	// With two answers of equal chance, one that is never heard in 100 attempts
	// is not there.
	seen := map[string]bool{first: true}
	for i := 1; i < 100; i++ {
		if enough := i >= 4*len(answers); enough && (sticky || len(seen) == len(answers)) {
			return nil
		}
		next := ask(wait)
		if !slices.Contains(answers, next) || sticky && next != first {
			return fmt.Errorf("first %s, then %s, want %s", first, next, want)
		}
		seen[next] = true
	}
	return fmt.Errorf("never anything but %v, want %s", seen, want)
}
