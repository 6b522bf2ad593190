package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/podarium/podarium/kubelet/eviction"
)

// evictionFlags are those of eviction as they were typed.
type evictionFlags struct {
	hard, soft, softGrace, minReclaim pairs
	transition                        time.Duration
	maxPodGrace                       int
}

func (f *evictionFlags) define(flags *flag.FlagSet) {
	f.hard = pairs{separator: "<", values: eviction.DefaultHard()}
	f.soft, f.softGrace, f.minReclaim = pairs{separator: "<"}, pairs{separator: "="}, pairs{separator: "="}
	flags.Var(&f.hard, "eviction-hard", "`thresholds` at which pods are evicted at once, such as memory.available<1Gi,nodefs.available<10%; 0% never")
	flags.Var(&f.soft, "eviction-soft", "`thresholds` at which pods are evicted when they are met for as long as --eviction-soft-grace-period says")
	flags.Var(&f.softGrace, "eviction-soft-grace-period", "`durations` for the soft thresholds, such as memory.available=1m30s")
	flags.Var(&f.minReclaim, "eviction-minimum-reclaim", "`amounts` which are reclaimed beyond a threshold, such as imagefs.available=2Gi")
	flags.DurationVar(&f.transition, "eviction-pressure-transition-period", 5*time.Minute, "`duration` for which a node's condition stays after its thresholds are met no more")
	flags.IntVar(&f.maxPodGrace, "eviction-max-pod-grace-period", 0, "most `seconds` that a pod has to end at a soft threshold; negative: what the pod says")
}

func (f *evictionFlags) policy() (eviction.Policy, error) {
	thresholds, err := eviction.Parse(eviction.Flags{
		Hard: f.hard.values, Soft: f.soft.values, SoftGrace: f.softGrace.values, MinReclaim: f.minReclaim.values,
	})
	if f.transition < 0 {
		err = errors.Join(err, fmt.Errorf("--eviction-pressure-transition-period %v is less than 0", f.transition))
	}
	return eviction.Policy{Thresholds: thresholds, Transition: f.transition, MaxPodGrace: time.Duration(f.maxPodGrace) * time.Second}, err
}

// pairs is a flag such as a<1,b<2. The first time that it is typed replaces the default, each further time adds.
type pairs struct {
	separator string
	values    map[string]string
	typed     bool
}

func (p *pairs) String() string {
	var text []string
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		text = append(text, name+p.separator+p.values[name])
	}
	return strings.Join(text, ",")
}

func (p *pairs) Set(text string) error {
	if !p.typed {
		p.values, p.typed = map[string]string{}, true
	}
	for pair := range strings.SplitSeq(text, ",") {
		if pair == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, p.separator)
		if !ok {
			return fmt.Errorf("malformed pair, expect string%sstring", p.separator)
		}
		p.values[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return nil
}
