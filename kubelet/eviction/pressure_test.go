package eviction

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func policy(t *testing.T, flags Flags) Policy {
	t.Helper()
	thresholds, err := Parse(flags)
	if err != nil {
		t.Fatal(err)
	}
	return Policy{Thresholds: thresholds, Transition: time.Minute}
}

// left is what is left of 100 of everything that is named.
func left(amounts map[Signal]string) Observations {
	seen := Observations{}
	for signal, amount := range amounts {
		seen[signal] = Observation{Available: resource.MustParse(amount), Capacity: resource.MustParse("100")}
	}
	return seen
}

// TestJudge follows nodes through a few minutes: second, what is left, what follows.
func TestJudge(t *testing.T) {
	type look struct {
		second int
		left   map[Signal]string
		want   string // conditions, thresholds which are due
	}
	disk := func(amount string) map[Signal]string { return map[Signal]string{NodeFSAvailable: amount} }
	for name, test := range map[string]struct {
		flags Flags
		looks []look
	}{
		"a hard threshold is due at once, and its condition stays for a minute": {
			Flags{Hard: map[string]string{"nodefs.available": "10%"}},
			[]look{
				{0, disk("11"), "[] []"},
				{10, disk("10"), "[] []"}, // less than, not as little as
				{20, disk("9"), "[DiskPressure] [nodefs.available]"},
				{30, disk("50"), "[DiskPressure] []"},
				{79, disk("50"), "[DiskPressure] []"},
				{80, disk("50"), "[] []"},
			},
		},
		"who meets it again begins the minute anew": {
			Flags{Hard: map[string]string{"nodefs.available": "10%"}},
			[]look{
				{0, disk("9"), "[DiskPressure] [nodefs.available]"},
				{50, disk("12"), "[DiskPressure] []"},
				{55, disk("9"), "[DiskPressure] [nodefs.available]"},
				{114, disk("12"), "[DiskPressure] []"},
				{115, disk("12"), "[] []"},
			},
		},
		"a soft one is due when it was met all the time": {
			Flags{Soft: map[string]string{"nodefs.available": "20"}, SoftGrace: map[string]string{"nodefs.available": "30s"}},
			[]look{
				{0, disk("19"), "[DiskPressure] []"},
				{20, disk("19"), "[DiskPressure] []"},
				{25, disk("20"), "[DiskPressure] []"},
				{30, disk("19"), "[DiskPressure] []"},
				{59, disk("19"), "[DiskPressure] []"},
				{60, disk("19"), "[DiskPressure] [nodefs.available]"},
			},
		},
		"what was due stays so until the minimum is reclaimed": {
			Flags{Hard: map[string]string{"nodefs.available": "10"}, MinReclaim: map[string]string{"nodefs.available": "5"}},
			[]look{
				{0, disk("14"), "[] []"},
				{10, disk("9"), "[DiskPressure] [nodefs.available]"},
				{20, disk("14"), "[DiskPressure] [nodefs.available]"},
				{30, disk("15"), "[DiskPressure] []"},
				{40, disk("14"), "[DiskPressure] []"},
			},
		},
		"memory comes first, and hard before soft": {
			Flags{
				Hard: map[string]string{"nodefs.available": "10", "pid.available": "10", "memory.available": "10"},
				Soft: map[string]string{"memory.available": "20"}, SoftGrace: map[string]string{"memory.available": "0s"},
			},
			[]look{
				{0, map[Signal]string{NodeFSAvailable: "1", PIDAvailable: "1", MemoryAvailable: "1"}, "[MemoryPressure DiskPressure PIDPressure] [memory.available memory.available nodefs.available pid.available]"},
				{10, map[Signal]string{PIDAvailable: "1", MemoryAvailable: "15"}, "[MemoryPressure DiskPressure PIDPressure] [memory.available pid.available]"},
			},
		},
		"what cannot be measured meets nothing": {
			Flags{Hard: DefaultHard()}, []look{{0, nil, "[] []"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, state, start := policy(t, test.flags), State{}, time.Unix(1790000000, 0)
			for _, l := range test.looks {
				var verdict Verdict
				state, verdict = p.Judge(state, left(l.left), start.Add(time.Duration(l.second)*time.Second))
				signals := []Signal{}
				for _, due := range verdict.Due {
					signals = append(signals, due.Signal)
				}
				if got := fmt.Sprint(verdict.Conditions, signals); got != l.want {
					t.Errorf("second %d: %s, want %s", l.second, got, l.want)
				}
			}
		})
	}
}

// TestTransitionZero: even then the condition is told while the threshold is met.
func TestTransitionZero(t *testing.T) {
	p := policy(t, Flags{Hard: map[string]string{"pid.available": "10"}})
	p.Transition = 0
	now := time.Now()
	state, verdict := p.Judge(State{}, left(map[Signal]string{PIDAvailable: "1"}), now)
	if fmt.Sprint(verdict.Conditions) != "[PIDPressure]" {
		t.Errorf("while it is met: %v", verdict.Conditions)
	}
	if _, verdict = p.Judge(state, left(map[Signal]string{PIDAvailable: "10"}), now); len(verdict.Conditions) > 0 {
		t.Errorf("afterwards: %v", verdict.Conditions)
	}
}

// TestPodGrace: one second at a hard threshold, and otherwise the lesser of two.
func TestPodGrace(t *testing.T) {
	hard, soft := Threshold{}, Threshold{Grace: time.Minute}
	for _, test := range []struct {
		threshold Threshold
		most      time.Duration
		own       int64
		want      time.Duration
	}{
		{hard, time.Hour, 30, time.Second},
		{soft, 0, 30, time.Second},
		{soft, 20 * time.Second, 30, 20 * time.Second},
		{soft, 60 * time.Second, 30, 30 * time.Second},
		{soft, 60 * time.Second, 0, time.Second},
		{soft, -time.Second, 30, 30 * time.Second},
	} {
		pod := &corev1.Pod{Spec: corev1.PodSpec{TerminationGracePeriodSeconds: &test.own}}
		if got := (Policy{MaxPodGrace: test.most}).PodGrace(test.threshold, pod); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}
