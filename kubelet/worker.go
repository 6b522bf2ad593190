package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// worker looks after one pod. Its goroutine alone makes and removes things; others tell it what
// happened by changing a field under the lock and waking it.
type worker struct {
	k   *Kubelet
	uid types.UID
	// static pods come from a file; the API server has only their mirror.
	static bool
	wake   chan struct{} // holds one token: however often it is woken, it looks once

	alive    context.Context // ends when the pod is to be deleted: pulls and hooks stop
	endAlive context.CancelFunc

	// The goroutine's own.
	mountRetry, sandboxRetry, deleteRetry quickRetry
	mountFailure                          string // last one told as event

	mu         sync.Mutex
	pod        *corev1.Pod // newest that the API server told
	mirror     *corev1.Pod // of a static pod, when the API server has one
	gone       bool        // the API object is deleted
	finished   bool        // nothing of the pod is left on the node
	hurry      chan struct{}
	sandbox    *sandboxRecord
	containers map[string]*container
	volumes    map[string]mounted
	stale      bool             // a ConfigMap or Secret of the volumes changed
	failure    *podFailure      // the whole pod failed: rejected, or deadline exceeded
	stopped    bool             // all containers ended for good and the sandbox is gone
	emptied    bool             // nothing is left of a deleted pod but its API object
	status     corev1.PodStatus // what the API server shall know
	published  bool             // status was computed at least once
	accepted   corev1.PodStatus // what the API server answered to the last write
	dirty      bool             // status is not written yet
	writing    bool             // a goroutine writes it
	written    chan struct{}    // closed when it has written all
	startTime  metav1.Time      // when a kubelet first saw the pod
	seen       time.Time        // when this one did
	emptying   chan struct{}    // somebody waits for the removal of ended containers
	cleaned    chan struct{}    // closed when nothing of the pod takes anything but disk for its logs
}

// podFailure is why a pod as a whole failed.
type podFailure struct {
	reason, message string
	rejected        bool // the node did not even take it
	disruption      bool // the pod is not to blame, the node was short of something
	// grace is how much time its containers have; zero: what the pod says. until is when that is over.
	grace time.Duration
	until time.Time
}

// never is a wait without end: the next wake-up comes from outside.
const never = time.Duration(1<<63 - 1)

func newWorker(k *Kubelet, pod *corev1.Pod) *worker {
	w := &worker{
		k: k, uid: pod.UID, wake: make(chan struct{}, 1), pod: pod, hurry: make(chan struct{}),
		containers: map[string]*container{}, volumes: map[string]mounted{}, cleaned: make(chan struct{}),
	}
	w.alive, w.endAlive = context.WithCancel(k.ctx)
	w.startTime, w.seen = timeNow(), time.Now()
	if pod.Status.StartTime != nil {
		w.startTime = *pod.Status.StartTime
	}
	return w
}

func (w *worker) wakeUp() {
	select {
	case w.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// update brings a newer version of the pod.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	if !newerVersion(pod, w.pod) {
		w.mu.Unlock()
		return
	}
	shorter := deletionGrace(pod) < deletionGrace(w.pod)
	w.pod = pod
	if pod.DeletionTimestamp != nil {
		w.endAlive()
	}
	if shorter {
		close(w.hurry)
		w.hurry = make(chan struct{})
	}
	w.mu.Unlock()
	w.wakeUp()
}

// removed says that the API object is gone: a forced deletion, or the end of an orderly one.
func (w *worker) removed() {
	w.mu.Lock()
	w.gone = true
	w.endAlive()
	close(w.hurry)
	w.hurry = make(chan struct{})
	w.mu.Unlock()
	w.wakeUp()
}

// mirrored is called when the mirror of a static pod has changed or is gone.
func (w *worker) mirrored(mirror *corev1.Pod, gone bool) {
	w.mu.Lock()
	switch {
	case gone:
		w.mirror = nil
	case w.mirror == nil || w.mirror.UID != mirror.UID || newerVersion(mirror, w.mirror):
		w.mirror = mirror
	}
	w.mu.Unlock()
	w.wakeUp()
}

// current is the pod as it is known now.
func (w *worker) current() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// ending tells whether the pod is on its way out.
func (w *worker) ending() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone
}

// run is the worker's goroutine.
func (w *worker) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-w.k.ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		wait := w.sync()
		w.mu.Lock()
		over := w.finished && w.gone
		w.mu.Unlock()
		if over {
			w.k.forget(w.uid)
			return
		}
		timer.Stop()
		if wait != never {
			timer.Reset(wait)
		}
	}
}

// sync compares what is with what shall be, does what is missing, and returns when to look again
// though nothing happens.
func (w *worker) sync() time.Duration {
	w.mu.Lock()
	pod, gone, finished := w.pod, w.gone, w.finished
	w.mu.Unlock()
	switch {
	case finished:
		return never
	case gone || pod.DeletionTimestamp != nil:
		return w.terminate(pod, gone)
	case w.over(pod):
		return w.stop(pod)
	}
	// An image pull may take long; then the pod's status says meanwhile what it waits for.
	early := time.AfterFunc(earlyStatus, w.publish)
	wait := w.converge(pod)
	early.Stop()
	w.publish()
	return wait
}

// earlyStatus is how long a start may take before its progress is published.
const earlyStatus = time.Second

// over tells whether the pod has come to its end, and notes when it has lived too long.
func (w *worker) over(pod *corev1.Pod) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if limit := pod.Spec.ActiveDeadlineSeconds; limit != nil && w.failure == nil {
		if time.Since(w.startTime.Time) >= time.Duration(*limit)*time.Second && !terminal(pod.Status.Phase) {
			w.failure = &podFailure{reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline"}
			w.k.event(pod, "", corev1.EventTypeNormal, "DeadlineExceeded", w.failure.message)
		}
	}
	return w.failure != nil || terminal(pod.Status.Phase) || terminal(w.phase())
}

func terminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// converge makes volumes and sandbox, then starts what has to run.
func (w *worker) converge(pod *corev1.Pod) time.Duration {
	var volumesErr, sandboxErr error
	var both sync.WaitGroup
	both.Go(func() { volumesErr = w.mountVolumes(pod) })
	sandboxErr = w.ensureSandbox(pod)
	both.Wait()
	if volumesErr != nil {
		if w.alive.Err() != nil {
			return never
		}
		w.reportMountFailure(pod, volumesErr)
		return w.mountRetry.next()
	}
	if sandboxErr != nil {
		if w.alive.Err() != nil {
			return never
		}
		w.k.event(pod, "", corev1.EventTypeWarning, "FailedCreatePodSandBox",
			fmt.Sprintf("Failed to create pod sandbox: %v", sandboxErr))
		return w.sandboxRetry.next()
	}
	w.mountRetry.reset()
	w.sandboxRetry.reset()
	wait := min(w.startContainers(pod), w.nextRefresh(), w.untilDeadline(pod))
	return wait
}

func (w *worker) reportMountFailure(pod *corev1.Pod, err error) {
	if text := err.Error(); text != w.mountFailure {
		w.mountFailure = text
		w.k.event(pod, "", corev1.EventTypeWarning, "FailedMount", text)
	}
}

func (w *worker) untilDeadline(pod *corev1.Pod) time.Duration {
	if pod.Spec.ActiveDeadlineSeconds == nil {
		return never
	}
	end := w.startTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second)
	return max(0, time.Until(end))
}

// nextRefresh is when the first of the volumes' tokens has to be renewed.
func (w *worker) nextRefresh() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	wait := never
	for _, volume := range w.volumes {
		if !volume.refresh.IsZero() {
			wait = min(wait, max(0, time.Until(volume.refresh)))
		}
	}
	return wait
}

// mountVolumes makes the volumes which are missing, and renews those whose content may have changed.
func (w *worker) mountVolumes(pod *corev1.Pod) error {
	w.mu.Lock()
	stale := w.stale
	w.stale = false
	w.mu.Unlock()
	writer := volumeWriter{pod: pod, dirs: w.k.podDirs(string(pod.UID)), source: w.sources(pod), tokens: w.k.tokens}
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		w.mu.Lock()
		have, ok := w.volumes[volume.Name]
		w.mu.Unlock()
		old := !have.refresh.IsZero() && time.Now().After(have.refresh)
		if ok && !old && !stale && !tellsOfPod(volume) {
			continue
		}
		made, err := writer.volume(w.alive, volume)
		if err != nil {
			w.mu.Lock()
			w.stale = w.stale || stale
			w.mu.Unlock()
			return fmt.Errorf("MountVolume.SetUp failed for volume %q : %w", volume.Name, err)
		}
		w.mu.Lock()
		w.volumes[volume.Name] = made
		w.mu.Unlock()
	}
	return nil
}

// tellsOfPod: the files may be other ones when the pod's labels or annotations are.
func tellsOfPod(volume *corev1.Volume) bool {
	if volume.Projected == nil {
		return volume.DownwardAPI != nil
	}
	return slices.ContainsFunc(volume.Projected.Sources, func(s corev1.VolumeProjection) bool { return s.DownwardAPI != nil })
}

// contentChanged is called when a ConfigMap or Secret of this pod is not what it was.
func (w *worker) contentChanged() {
	w.mu.Lock()
	w.stale = true
	for _, have := range w.containers {
		have.retryAt = time.Time{} // it may have waited for just this
	}
	w.mu.Unlock()
	w.wakeUp()
}

// sources is what environment variables and volumes of this pod may refer to.
func (w *worker) sources(pod *corev1.Pod) sources {
	w.mu.Lock()
	var ips []string
	if w.sandbox != nil {
		ips = w.sandbox.IPs
	}
	w.mu.Unlock()
	return sources{
		pod: pod, podIPs: ips, nodeIPs: w.k.cfg.NodeIPs, seen: w.seen, allocatable: w.k.allocatable,
		services: func(ctx context.Context) []*corev1.Service { return w.k.serviceList(ctx, !w.static) },
		configMap: func(ctx context.Context, name string) (*corev1.ConfigMap, error) {
			return w.k.objects.configMap(ctx, w.uid, w.contentChanged, pod.Namespace, name)
		},
		secret: func(ctx context.Context, name string) (*corev1.Secret, error) {
			return w.k.objects.secret(ctx, w.uid, w.contentChanged, pod.Namespace, name)
		},
	}
}

// ensureSandbox makes the sandbox unless there is one.
func (w *worker) ensureSandbox(pod *corev1.Pod) error {
	w.mu.Lock()
	have := w.sandbox != nil
	w.mu.Unlock()
	if have {
		return nil
	}
	if !w.k.starts.enter(w.alive, newPod) {
		return w.alive.Err()
	}
	defer w.k.starts.leave()
	w.k.counts.startedPods.Inc()
	sandbox, err := w.k.createSandbox(w.alive, pod)
	if err != nil {
		w.k.counts.startFailures.WithLabelValues(podSandbox, "CreatePodSandboxError").Inc()
		return err
	}
	w.k.counts.startedContainers.WithLabelValues(podSandbox).Inc()
	w.mu.Lock()
	w.sandbox = &sandbox
	w.mu.Unlock()
	slog.Info("Pod has a sandbox", "pod", podName(pod), "ips", sandbox.IPs)
	return nil
}
