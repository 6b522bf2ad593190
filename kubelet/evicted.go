package kubelet

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/eviction"
	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// evictedFile is in the directory of a pod which is evicted: a kubelet that is killed before the API server knows
// has told the pod's containers to end already, and the next one would start them again.
const evictedFile = "evicted.json"

type evictionRecord struct {
	Message    string        `json:"message"`
	Grace      time.Duration `json:"grace"`
	Disruption bool          `json:"disruption,omitempty"`
}

// evict makes the pod fail; its worker does the rest. It is false for a pod which has come to its end already.
func (w *worker) evict(why podFailure, annotations map[string]string) bool {
	if w.occupies() == nil {
		return false
	}
	w.saveEviction(why)
	w.mu.Lock()
	if w.failure != nil || w.gone || w.finished || terminal(w.phase()) {
		w.mu.Unlock()
		return false
	}
	why.reason, why.until = eviction.Reason, time.Now().Add(why.grace)
	w.failure = &why
	pod := w.pod
	w.endAlive()
	close(w.hurry) // it may be ending, in more time than there is now
	w.hurry = make(chan struct{})
	w.mu.Unlock()
	slog.Info("Pod is evicted", "pod", podName(pod), "message", why.message)
	w.k.recorder.AnnotatedEventf(podReference(pod, ""), annotations, corev1.EventTypeWarning, eviction.Reason, "%s", why.message)
	w.wakeUp()
	return true
}

func (w *worker) saveEviction(why podFailure) {
	err := w.k.podDirs(string(w.uid)).make()
	if err == nil {
		err = shim.WriteFile(w.evictedFile(), evictionRecord{why.message, why.grace, why.disruption})
	}
	if err != nil { // the disk may be full to the brim; the pod goes all the same
		slog.Warn("Noting eviction", "pod", podName(w.current()), "error", err)
	}
}

func (w *worker) evictedFile() string {
	return filepath.Join(w.k.podDirs(string(w.uid)).state, evictedFile)
}

// savedEviction is the failure of a pod which an earlier kubelet has begun to evict, nil of any other.
func (w *worker) savedEviction() *podFailure {
	var saved evictionRecord
	if err := shim.ReadFile(w.evictedFile(), &saved); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			slog.Warn("Reading eviction", "pod", podName(w.pod), "error", err)
		}
		return nil
	}
	return &podFailure{reason: eviction.Reason, message: saved.Message, disruption: saved.Disruption, grace: saved.Grace}
}

// toldFailure is why a pod has failed by what the API server knows, so that it goes on to say so. A pod that was
// rejected has no containers to tell of.
func toldFailure(pod *corev1.Pod) *podFailure {
	if pod.Status.Phase != corev1.PodFailed || pod.Status.Reason == "" {
		return nil
	}
	return &podFailure{
		reason: pod.Status.Reason, message: pod.Status.Message,
		rejected: len(pod.Status.ContainerStatuses) == 0,
	}
}

// failureGrace is how much time the containers have to end, own unless the reason allows less.
func (w *worker) failureGrace(own time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failure == nil || w.failure.grace == 0 || w.failure.grace >= own {
		return own
	}
	w.failure.until = time.Now().Add(w.failure.grace)
	return w.failure.grace
}

// cleanedUp says that nothing of the pod runs any more, and its volumes are gone.
func (w *worker) cleanedUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.cleaned:
	default:
		close(w.cleaned)
	}
}

// awaitCleanup: what the pod took is free only then, and the next look shall not evict another in vain.
func (w *worker) awaitCleanup(ctx context.Context) {
	timer := time.NewTimer(cleanupTimeout)
	defer timer.Stop()
	select {
	case <-w.cleaned:
	case <-ctx.Done():
	case <-timer.C:
		slog.Warn("Evicted pod is not gone yet", "pod", podName(w.current()))
	}
}

// candidate measures the pod; its directories only with disk.
func (w *worker) candidate(disk bool) eviction.Candidate {
	m, _ := w.measure()
	c := eviction.Candidate{Pod: m.pod, Measured: m.known, Memory: int64(m.WorkingSet)}
	memory := map[string]int64{}
	for _, have := range m.containers {
		memory[have.name] = int64(have.WorkingSet)
	}
	if tasks, err := runtime.CgroupTasks(podCgroup(w.k.cfg.CgroupRoot, m.pod)); err == nil {
		c.Processes = int64(tasks)
	}
	records := w.records()
	for _, name := range slices.Sorted(maps.Keys(records)) {
		container := eviction.Container{Name: name, Memory: memory[name]}
		if disk {
			container.Writable = diskUsage(w.k.runtime.WritableDir(records[name].ID))
			container.Logs = diskUsage(filepath.Dir(records[name].LogPath))
		}
		c.Containers = append(c.Containers, container)
	}
	if disk {
		c.Volumes = w.volumeUsage(m.pod)
	}
	return c
}

// records are those of the containers' newest attempts, by name.
func (w *worker) records() map[string]runtime.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	records := map[string]runtime.Record{}
	for name, have := range w.containers {
		if have.record.ID != "" {
			records[name] = have.record
		}
	}
	return records
}

func (w *worker) volumeUsage(pod *corev1.Pod) map[string]eviction.Disk {
	usage := map[string]eviction.Disk{}
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; v.EmptyDir != nil {
			usage[v.Name] = diskUsage(volumeDir(w.k.podDirs(string(w.uid)).state, "empty-dir", v.Name))
		}
	}
	return usage
}

// emptyEnded removes what is left of containers of pods that have ended and are not deleted: logs, and the
// marks on images. Their statuses stay.
func (k *Kubelet) emptyEnded(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	k.mu.Lock()
	workers := slices.Collect(maps.Values(k.workers))
	k.mu.Unlock()
	var all sync.WaitGroup
	for _, w := range workers {
		if done := w.askToEmpty(); done != nil {
			all.Go(func() {
				select {
				case <-done:
				case <-ctx.Done():
				}
			})
		}
	}
	all.Wait()
}

// askToEmpty is nil for a pod of which there is nothing to be removed.
func (w *worker) askToEmpty() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.cleaned:
	default:
		return nil
	}
	if w.finished || w.gone || w.pod.DeletionTimestamp != nil {
		return nil
	}
	if _, err := os.Stat(w.k.logDir(w.pod)); err != nil {
		return nil // was emptied already
	}
	if w.emptying == nil {
		w.emptying = make(chan struct{})
	}
	w.wakeUp()
	return w.emptying
}

// empty removes the ended containers of an ended pod when somebody asks for it.
func (w *worker) empty(pod *corev1.Pod) {
	w.mu.Lock()
	asked := w.emptying
	w.emptying = nil
	w.mu.Unlock()
	if asked == nil {
		return
	}
	defer close(asked)
	w.flushStatus() // it stands on the containers' records
	ctx := context.WithoutCancel(w.k.ctx)
	for _, record := range w.records() {
		if err := w.k.removeContainer(ctx, record.ID); err != nil {
			slog.Warn("Removing ended container", "container", record.Name, "pod", podName(pod), "error", err)
			return
		}
	}
	if err := os.RemoveAll(w.k.logDir(pod)); err != nil {
		slog.Warn("Removing logs of ended pod", "pod", podName(pod), "error", err)
		return
	}
	slog.Info("Ended pod's containers are removed", "pod", podName(pod))
}
