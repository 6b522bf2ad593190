package kubelet

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"

	"github.com/podarium/podarium/kubelet/eviction"
	"github.com/podarium/podarium/kubelet/runtime"
)

const (
	// pressureInterval is upstream's: the kernel tells nobody that a file system fills up. A look costs a few
	// small files; directories are walked only when a threshold is met, or for a pod with a limit.
	pressureInterval = 10 * time.Second
	// cleanupTimeout is how long the next eviction waits for the end of the last one.
	cleanupTimeout = 30 * time.Second
	// systemCritical is the least priority of pods without which a node does not work.
	systemCritical = 2_000_000_000
)

// pressure watches what the node has left, and makes room when that is too little.
type pressure struct {
	k           *Kubelet
	imagesApart bool          // the images have a file system of their own
	changed     chan struct{} // holds one token: the conditions are other ones

	state eviction.State // only look's

	mu         sync.Mutex
	conditions []corev1.NodeConditionType
}

func newPressure(k *Kubelet) *pressure {
	p := &pressure{k: k, changed: make(chan struct{}, 1)}
	var state, images unix.Stat_t
	if unix.Stat(k.cfg.RootDir, &state) == nil && unix.Stat(k.cfg.ImageRoot, &images) == nil {
		p.imagesApart = state.Dev != images.Dev
	}
	return p
}

// run looks every few seconds, and at once again when a pod was evicted and is gone.
func (p *pressure) run(ctx context.Context) {
	for {
		seen, due := p.look()
		evicted := p.relieve(ctx, seen, due)
		for _, w := range evicted {
			w.awaitCleanup(ctx)
		}
		if len(evicted) == 0 && !sleep(ctx, pressureInterval) || ctx.Err() != nil {
			return
		}
	}
}

// look measures, and notes the conditions that follow.
func (p *pressure) look() (eviction.Observations, []eviction.Threshold) {
	seen := p.k.observe()
	state, verdict := p.k.cfg.Eviction.Judge(p.state, seen, time.Now())
	p.state = state
	p.mu.Lock()
	before := p.conditions
	p.conditions = verdict.Conditions
	p.mu.Unlock()
	if slices.Equal(before, verdict.Conditions) {
		return seen, verdict.Due
	}
	for _, words := range pressureWords() {
		has := slices.Contains(verdict.Conditions, words.kind)
		if has != slices.Contains(before, words.kind) {
			p.tell(words, has)
		}
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
	return seen, verdict.Due
}

// pressureWord is how a condition is told, when it is there and when it is not.
type pressureWord struct {
	kind                corev1.NodeConditionType
	reason, message     string
	noReason, noMessage string
	event, noEvent      string
}

func pressureWords() []pressureWord {
	return []pressureWord{
		{
			corev1.NodeMemoryPressure, "KubeletHasInsufficientMemory", "kubelet has insufficient memory available",
			"KubeletHasSufficientMemory", "kubelet has sufficient memory available", "NodeHasInsufficientMemory", "NodeHasSufficientMemory",
		},
		{
			corev1.NodeDiskPressure, "KubeletHasDiskPressure", "kubelet has disk pressure",
			"KubeletHasNoDiskPressure", "kubelet has no disk pressure", "NodeHasDiskPressure", "NodeHasNoDiskPressure",
		},
		{
			corev1.NodePIDPressure, "KubeletHasInsufficientPID", "kubelet has insufficient PID available",
			"KubeletHasSufficientPID", "kubelet has sufficient PID available", "NodeHasInsufficientPID", "NodeHasSufficientPID",
		},
	}
}

func (p *pressure) tell(words pressureWord, has bool) {
	event := words.noEvent
	if has {
		event = words.event
	}
	slog.Info("Node's condition changes", "condition", words.kind, "status", has)
	p.k.nodeNews(event, fmt.Sprintf("Node %s status is now: %s", p.k.cfg.NodeName, event))
}

func (p *pressure) has(kind corev1.NodeConditionType) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.conditions, kind)
}

// refuses tells why a node under pressure does not take a pod. Short of memory only, it takes those which say
// how much they need, and those which tolerate the taint that the scheduler sees.
func (p *pressure) refuses(pod *corev1.Pod, static bool) *podFailure {
	p.mu.Lock()
	conditions := p.conditions
	p.mu.Unlock()
	if len(conditions) == 0 || critical(pod, static) {
		return nil
	}
	if slices.Equal(conditions, []corev1.NodeConditionType{corev1.NodeMemoryPressure}) {
		taint := []corev1.Taint{{Key: corev1.TaintNodeMemoryPressure, Effect: corev1.TaintEffectNoSchedule}}
		all := func(*corev1.Taint) bool { return true }
		_, untolerated := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), taint, pod.Spec.Tolerations, all, true)
		if !untolerated || qosClass(pod) != corev1.PodQOSBestEffort {
			return nil
		}
	}
	return rejection(eviction.Reason, fmt.Sprintf("The node had condition: %v. ", conditions))
}

// critical pods are neither refused nor evicted.
func critical(pod *corev1.Pod, static bool) bool {
	return static || corev1helpers.PodPriority(pod) >= systemCritical
}

// relieve evicts the pods which exceed limits of their own; if there are none, and something has to be
// reclaimed, what nobody misses, and if that is not enough one pod.
func (p *pressure) relieve(ctx context.Context, seen eviction.Observations, due []eviction.Threshold) []*worker {
	if !p.k.heard() {
		return nil // not all pods are known yet
	}
	if evicted := p.enforceLimits(); len(evicted) > 0 {
		return evicted
	}
	if len(due) == 0 {
		return nil
	}
	threshold := due[0]
	slog.Info("Node is short of something", "signal", threshold.Signal, "available", available(seen, threshold.Signal))
	p.k.nodeEvent("EvictionThresholdMet", fmt.Sprintf("Attempting to reclaim %s", threshold.Signal.Resource()))
	if p.reclaim(ctx, threshold.Signal) {
		slog.Info("Reclaimed enough without evicting a pod", "signal", threshold.Signal)
		return nil
	}
	return p.evictOne(threshold, seen[threshold.Signal])
}

func available(seen eviction.Observations, signal eviction.Signal) string {
	left := seen[signal].Available
	return left.String()
}

// enforceLimits evicts pods for which nobody but themselves is to blame. Only theirs are the directories
// which are walked in all peace.
func (p *pressure) enforceLimits() []*worker {
	var evicted []*worker
	for _, w := range p.k.active() {
		if !eviction.HasLimits(w.current()) {
			continue
		}
		candidate := w.candidate(true)
		limit, message, over := candidate.OverLimit()
		if !over || critical(candidate.Pod, w.static) {
			continue
		}
		if w.evict(podFailure{message: message, grace: time.Second}, nil) {
			p.k.counts.evictions.WithLabelValues(string(limit)).Inc()
			evicted = append(evicted, w)
		}
	}
	return evicted
}

// reclaim removes ended containers and unused images, from the file system that is full, and tells whether
// that was enough.
func (p *pressure) reclaim(ctx context.Context, signal eviction.Signal) bool {
	if !signal.OnDisk() {
		return false
	}
	if !p.imagesApart || !signal.OnImageFS() {
		p.k.emptyEnded(ctx)
	}
	if !p.imagesApart || signal.OnImageFS() {
		freed, err := p.k.freeImages(func() (int64, error) { return math.MaxInt64, nil })
		if err != nil {
			slog.Warn("Removing unused images", "error", err)
		}
		slog.Info("Removed unused images", "bytes", freed)
	}
	return p.k.cfg.Eviction.Resolved(p.k.observe())
}

// evictOne evicts the first pod by rank which may go.
func (p *pressure) evictOne(threshold eviction.Threshold, seen eviction.Observation) []*worker {
	byUID, candidates := map[string]*worker{}, []eviction.Candidate{}
	for _, w := range p.k.active() {
		candidate := w.candidate(threshold.Signal.OnDisk())
		byUID[string(w.uid)] = w
		candidates = append(candidates, candidate)
	}
	for _, candidate := range eviction.Rank(candidates, threshold.Signal, p.imagesApart) {
		w := byUID[string(candidate.Pod.UID)]
		if critical(candidate.Pod, w.static) {
			slog.Debug("Not evicting a critical pod", "pod", podName(candidate.Pod))
			continue
		}
		message, annotations := eviction.Message(threshold, seen, candidate)
		grace := p.k.cfg.Eviction.PodGrace(threshold, candidate.Pod)
		if w.evict(podFailure{message: message, grace: grace, disruption: true}, annotations) {
			p.k.counts.evictions.WithLabelValues(string(threshold.Signal)).Inc()
			return []*worker{w}
		}
	}
	slog.Warn("No pod can be evicted", "signal", threshold.Signal, "pods", len(candidates))
	return nil
}

// active are the workers of pods which have not ended, by the age of the pods, the youngest first: where nothing
// else tells two pods apart, the one which has worked for longer stays.
func (k *Kubelet) active() []*worker {
	k.mu.Lock()
	workers := slices.Collect(maps.Values(k.workers))
	k.mu.Unlock()
	workers = slices.DeleteFunc(workers, func(w *worker) bool { return w.occupies() == nil })
	slices.SortFunc(workers, func(a, b *worker) int {
		return cmp.Or(b.startTime.Compare(a.startTime.Time), cmp.Compare(a.uid, b.uid))
	})
	return workers
}

// observe measures all that there may be thresholds for.
func (k *Kubelet) observe() eviction.Observations {
	seen := eviction.Observations{}
	note := func(signal eviction.Signal, available, capacity uint64, format resource.Format) {
		if capacity > 0 {
			seen[signal] = eviction.Observation{
				Available: *resource.NewQuantity(int64(min(available, capacity)), format), Capacity: *resource.NewQuantity(int64(capacity), format),
			}
		}
	}
	memory := uint64(k.memoryCapacity())
	if usage, err := runtime.MachineUsage(); err != nil {
		slog.Warn("Measuring the node", "error", err)
	} else {
		note(eviction.MemoryAvailable, memory-min(memory, usage.WorkingSet), memory, resource.BinarySI)
	}
	if usage, ok := usageOf(path.Join("/", k.cfg.CgroupRoot, "kubepods")); ok {
		note(eviction.AllocatableMemoryAvailable, memory-min(memory, usage.WorkingSet), memory, resource.BinarySI)
	}
	for _, fs := range []struct {
		dir           string
		bytes, inodes eviction.Signal
	}{
		{k.cfg.RootDir, eviction.NodeFSAvailable, eviction.NodeFSInodesFree},
		{k.cfg.ImageRoot, eviction.ImageFSAvailable, eviction.ImageFSInodesFree},
	} {
		var stat unix.Statfs_t
		if err := unix.Statfs(fs.dir, &stat); err != nil {
			slog.Warn("Measuring file system", "dir", fs.dir, "error", err)
			continue
		}
		size := uint64(stat.Bsize)
		note(fs.bytes, stat.Bavail*size, stat.Blocks*size, resource.BinarySI)
		note(fs.inodes, stat.Ffree, stat.Files, resource.DecimalSI) // btrfs makes inodes as it needs them, and says 0 of 0
	}
	if running, most, err := runtime.MachineTasks(); err != nil {
		slog.Warn("Counting tasks", "error", err)
	} else {
		note(eviction.PIDAvailable, most-min(most, running), most, resource.DecimalSI)
	}
	return seen
}
