package eviction

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// TestParse: thresholds in the order in which they count; 0% and 100% say never.
func TestParse(t *testing.T) {
	got, err := Parse(Flags{
		Hard: map[string]string{
			"nodefs.available": "10%", "memory.available": "100Mi", "imagefs.available": "0%", "imagefs.inodesFree": "100%",
			"containerfs.available": "5%",
		},
		Soft:       map[string]string{"memory.available": "300Mi", "pid.available": "1k"},
		SoftGrace:  map[string]string{"memory.available": "1m30s", "pid.available": "0s", "nodefs.available": "5s"},
		MinReclaim: map[string]string{"memory.available": "0", "nodefs.available": "2.5%"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	hundred := resource.MustParse("100Gi")
	for _, th := range got {
		value, reclaim := th.Value.Of(hundred), th.MinReclaim.Of(hundred)
		lines = append(lines, strings.Join([]string{string(th.Signal), value.String(), th.Grace.String(), reclaim.String()}, " "))
	}
	want := `memory.available 100Mi 0s 0
nodefs.available 10737418Ki 0s 2684354560
memory.available 300Mi 1m30s 0
pid.available 1k 0s 0`
	// A part of something is computed with 24 bits, as upstream's is.
	want = strings.Replace(want, "10737418Ki", byUpstream(0.10, hundred), 1)
	want = strings.Replace(want, "2684354560", byUpstream(0.025, hundred), 1)
	if text := strings.Join(lines, "\n"); text != want {
		t.Errorf("got\n%s\nwant\n%s", text, want)
	}
	if def, err := Parse(Flags{Hard: DefaultHard()}); err != nil || len(def) != 5 {
		t.Errorf("the default is %v, %v", def, err)
	}
}

func byUpstream(fraction float32, capacity resource.Quantity) string {
	return resource.NewQuantity(int64(float64(capacity.Value())*float64(fraction)), resource.BinarySI).String()
}

// TestParseRefuses tells what is wrong in upstream's words, and of which flag.
func TestParseRefuses(t *testing.T) {
	one := func(signal, value string) map[string]string { return map[string]string{signal: value} }
	for want, flags := range map[string]Flags{
		"--eviction-hard: unsupported eviction signal memory":                                                          {Hard: one("memory", "1Gi")},
		"--eviction-hard: eviction threshold memory.available must be positive: 0":                                     {Hard: one("memory.available", "0")},
		"--eviction-hard: eviction threshold memory.available must be positive: -1Gi":                                  {Hard: one("memory.available", "-1Gi")},
		"--eviction-hard: eviction percentage threshold nodefs.available must be >= 0%: -5%":                           {Hard: one("nodefs.available", "-5%")},
		"--eviction-hard: eviction percentage threshold nodefs.available must be <= 100%: 101%":                        {Hard: one("nodefs.available", "101%")},
		"--eviction-hard: eviction percentage threshold nodefs.available must be <= 100%: NaN%":                        {Hard: one("nodefs.available", "NaN%")},
		`--eviction-hard: strconv.ParseFloat: parsing "ten": invalid syntax`:                                           {Hard: one("nodefs.available", "ten%")},
		"--eviction-hard: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'": {Hard: one("memory.available", "much")},
		"--eviction-hard: exponent of 1e99999999 must be from -30 to 30":                                               {Hard: one("memory.available", "1e99999999")},
		"--eviction-minimum-reclaim: exponent of 1E-99999999999999999999 must be from -30 to 30":                       {MinReclaim: one("memory.available", "1E-99999999999999999999")},
		"--eviction-soft: grace period must be specified for the soft eviction threshold memory.available":             {Soft: one("memory.available", "1Gi")},
		"--eviction-soft-grace-period: unsupported eviction signal cpu":                                                {SoftGrace: one("cpu", "1m")},
		`--eviction-soft-grace-period: time: invalid duration "soon"`:                                                  {SoftGrace: one("memory.available", "soon")},
		"--eviction-soft-grace-period: invalid eviction grace period specified: -1s, must be a positive value":         {SoftGrace: one("memory.available", "-1s")},
		"--eviction-minimum-reclaim: negative eviction minimum reclaim specified for memory.available":                 {MinReclaim: one("memory.available", "-1")},
		"--eviction-minimum-reclaim: eviction percentage minimum reclaim memory.available must be positive: 0%":        {MinReclaim: one("memory.available", "0%")},
		"--eviction-hard: unsupported eviction signal a\n--eviction-minimum-reclaim: unsupported eviction signal b": {
			Hard: map[string]string{"a": "1", "c": "1"}, MinReclaim: one("b", "1"),
		},
	} {
		if _, err := Parse(flags); err == nil || err.Error() != want {
			t.Errorf("got %v\nwant %s", err, want)
		}
	}
}

// FuzzParse: whatever is typed is refused, or makes thresholds that can be compared with what is left.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"100Mi", "10%", "-0%", "NaN%", "Inf%", "1e400", "1m30s", "0", "%", "", "9E", "1e-400%"} {
		f.Add("memory.available", seed, seed)
	}
	f.Fuzz(func(t *testing.T, signal, value, other string) {
		pair := map[string]string{signal: value}
		for _, flags := range []Flags{
			{Hard: pair, MinReclaim: map[string]string{signal: other}},
			{Soft: pair, SoftGrace: map[string]string{signal: other}},
		} {
			thresholds, err := Parse(flags)
			if err != nil {
				if !strings.HasPrefix(err.Error(), "--eviction-") {
					t.Errorf("%v names no flag", err)
				}
				continue
			}
			for _, th := range thresholds {
				capacity := resource.MustParse("8Ei")
				least := th.Value.Of(capacity)
				reclaim := th.MinReclaim.Of(capacity)
				if least.Sign() < 0 || reclaim.Sign() < 0 || th.Grace < 0 {
					t.Errorf("%q %q: %v", value, other, th)
				}
				seen := Observations{th.Signal: {Available: capacity, Capacity: capacity}}
				_, verdict := Policy{Thresholds: thresholds}.Judge(State{}, seen, time.Now())
				if len(verdict.Due) > 1 {
					t.Errorf("%v", verdict)
				}
			}
		}
	})
}
