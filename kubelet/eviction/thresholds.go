package eviction

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal is something that a node may run out of, by upstream's name.
type Signal string

// The file system "nodefs" has the pods' state: logs, emptyDirs, what containers write. "imagefs" has the
// images; it may be the same one.
const (
	MemoryAvailable            Signal = "memory.available"
	AllocatableMemoryAvailable Signal = "allocatableMemory.available" // what the pods together may have, less what they use
	NodeFSAvailable            Signal = "nodefs.available"
	NodeFSInodesFree           Signal = "nodefs.inodesFree"
	ImageFSAvailable           Signal = "imagefs.available"
	ImageFSInodesFree          Signal = "imagefs.inodesFree"
	PIDAvailable               Signal = "pid.available"
)

// What containers write is on nodefs here, always. Upstream takes thresholds of these signals and puts those
// of nodefs in their place; so they need no more than to be taken.
const (
	containerFSAvailable  Signal = "containerfs.available"
	containerFSInodesFree Signal = "containerfs.inodesFree"
)

// Resources which are no pod's to request.
const (
	inodes corev1.ResourceName = "inodes"
	pids   corev1.ResourceName = "pids"
)

// Resource is what a signal is about; empty for a signal that there is not.
func (s Signal) Resource() corev1.ResourceName {
	switch s {
	case MemoryAvailable, AllocatableMemoryAvailable:
		return corev1.ResourceMemory
	case NodeFSAvailable, ImageFSAvailable, containerFSAvailable:
		return corev1.ResourceEphemeralStorage
	case NodeFSInodesFree, ImageFSInodesFree, containerFSInodesFree:
		return inodes
	case PIDAvailable:
		return pids
	}
	return ""
}

// OnImageFS tells whether a signal is one of the images' file system.
func (s Signal) OnImageFS() bool { return s == ImageFSAvailable || s == ImageFSInodesFree }

// OnDisk tells whether a signal is one of a file system.
func (s Signal) OnDisk() bool {
	return s.Resource() == corev1.ResourceEphemeralStorage || s.Resource() == inodes
}

// Condition is the condition of the node which says that there is too little.
func (s Signal) Condition() corev1.NodeConditionType {
	switch s.Resource() {
	case corev1.ResourceMemory:
		return corev1.NodeMemoryPressure
	case pids:
		return corev1.NodePIDPressure
	default:
		return corev1.NodeDiskPressure
	}
}

// Amount is a quantity, or with Fraction not zero a part of all there is.
type Amount struct {
	Quantity resource.Quantity
	Fraction float32
}

// Of is the amount when there is so much in all.
func (a Amount) Of(capacity resource.Quantity) resource.Quantity {
	if a.Fraction == 0 {
		return a.Quantity.DeepCopy()
	}
	return *resource.NewQuantity(int64(float64(capacity.Value())*float64(a.Fraction)), resource.BinarySI)
}

// Threshold is met when less than Value is left.
type Threshold struct {
	Signal Signal
	Value  Amount
	// Grace is for how long it has to be met before a pod goes. At zero the threshold is a hard one, and
	// the pod has no time either.
	Grace time.Duration
	// MinReclaim is how much more than Value has to be free before it is enough again.
	MinReclaim Amount
}

// Policy is what a kubelet's flags say of eviction.
type Policy struct {
	Thresholds  []Threshold   // hard ones first, by signal
	Transition  time.Duration // for so long a condition stays after its thresholds were met for the last time
	MaxPodGrace time.Duration // most time that a pod has to end at a soft threshold; negative: its own
}

// Flags are a kubelet's flags of eviction: signals with their values.
type Flags struct {
	Hard, Soft, SoftGrace, MinReclaim map[string]string
}

// DefaultHard is what --eviction-hard is when nobody says it.
func DefaultHard() map[string]string {
	return map[string]string{
		string(MemoryAvailable): "100Mi",
		string(NodeFSAvailable): "10%", string(NodeFSInodesFree): "5%",
		string(ImageFSAvailable): "15%", string(ImageFSInodesFree): "5%",
	}
}

// Parse says what is wrong in upstream's words, behind the name of the flag.
func Parse(flags Flags) ([]Threshold, error) {
	hard, hardErr := parseThresholds(flags.Hard)
	soft, softErr := parseThresholds(flags.Soft)
	graces, gracesErr := parseEach(flags.SoftGrace, parseGrace)
	reclaims, reclaimsErr := parseEach(flags.MinReclaim, parseReclaim)
	err := errors.Join(named("eviction-hard", hardErr), named("eviction-soft", softErr),
		named("eviction-soft-grace-period", gracesErr), named("eviction-minimum-reclaim", reclaimsErr))
	if err != nil {
		return nil, err
	}
	for i := range soft {
		grace, ok := graces[soft[i].Signal]
		if !ok {
			return nil, named("eviction-soft", fmt.Errorf("grace period must be specified for the soft eviction threshold %v", soft[i].Signal))
		}
		soft[i].Grace = grace
	}
	thresholds := slices.Concat(hard, soft)
	for i := range thresholds {
		thresholds[i].MinReclaim = reclaims[thresholds[i].Signal]
	}
	return thresholds, nil
}

func named(flag string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("--%s: %w", flag, err)
}

// parseThresholds leaves out those which cannot be met: 0 % of something, and all of it, say "never".
func parseThresholds(statements map[string]string) ([]Threshold, error) {
	values, err := parseEach(statements, parseValue)
	if err != nil {
		return nil, err
	}
	var thresholds []Threshold
	for _, signal := range slices.Sorted(maps.Keys(values)) {
		text := statements[string(signal)]
		if text == "0%" || text == "100%" || signal == containerFSAvailable || signal == containerFSInodesFree {
			continue
		}
		thresholds = append(thresholds, Threshold{Signal: signal, Value: values[signal]})
	}
	return thresholds, nil
}

// parseEach parses the values of all signals, and tells of the first by name that is wrong.
func parseEach[T any](statements map[string]string, parse func(Signal, string) (T, error)) (map[Signal]T, error) {
	values := map[Signal]T{}
	for _, name := range slices.Sorted(maps.Keys(statements)) {
		signal := Signal(name)
		if signal.Resource() == "" {
			return nil, fmt.Errorf("unsupported eviction signal %v", signal)
		}
		value, err := parse(signal, statements[name])
		if err != nil {
			return nil, err
		}
		values[signal] = value
	}
	return values, nil
}

func parseValue(signal Signal, text string) (Amount, error) {
	if strings.HasSuffix(text, "%") {
		fraction, err := parsePercent(text)
		switch {
		case err != nil:
			return Amount{}, err
		case fraction < 0:
			return Amount{}, fmt.Errorf("eviction percentage threshold %v must be >= 0%%: %s", signal, text)
		case !(fraction <= 1): // NaN is not, either
			return Amount{}, fmt.Errorf("eviction percentage threshold %v must be <= 100%%: %s", signal, text)
		}
		return Amount{Fraction: fraction}, nil
	}
	quantity, err := parseQuantity(text)
	if err != nil {
		return Amount{}, err
	}
	if quantity.Sign() <= 0 {
		return Amount{}, fmt.Errorf("eviction threshold %v must be positive: %s", signal, &quantity)
	}
	return Amount{Quantity: quantity}, nil
}

// maxExponent is beyond all that there is to be measured.
const maxExponent = 30

// parseQuantity refuses what is cheap to write and dear to compare: 1e99999999 is a number of so many digits, and a
// look at the node would take minutes.
func parseQuantity(text string) (resource.Quantity, error) {
	if at := strings.LastIndexAny(text, "eE"); at >= 0 {
		exponent, err := strconv.Atoi(text[at+1:])
		if errors.Is(err, strconv.ErrRange) || err == nil && (exponent > maxExponent || exponent < -maxExponent) {
			return resource.Quantity{}, fmt.Errorf("exponent of %s must be from -%d to %d", text, maxExponent, maxExponent)
		}
	}
	return resource.ParseQuantity(text)
}

func parsePercent(text string) (float32, error) {
	percent, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 32)
	return float32(percent) / 100, err
}

func parseGrace(_ Signal, text string) (time.Duration, error) {
	grace, err := time.ParseDuration(text)
	if err == nil && grace < 0 {
		err = fmt.Errorf("invalid eviction grace period specified: %v, must be a positive value", text)
	}
	return grace, err
}

func parseReclaim(signal Signal, text string) (Amount, error) {
	if strings.HasSuffix(text, "%") {
		fraction, err := parsePercent(text)
		if err == nil && !(fraction > 0 && fraction <= 1) {
			err = fmt.Errorf("eviction percentage minimum reclaim %v must be positive: %s", signal, text)
		}
		return Amount{Fraction: fraction}, err
	}
	quantity, err := parseQuantity(text)
	if err == nil && quantity.Sign() < 0 {
		err = fmt.Errorf("negative eviction minimum reclaim specified for %v", signal)
	}
	return Amount{Quantity: quantity}, err
}
