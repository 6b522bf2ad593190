package kubelet

import (
	"log/slog"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// facts gathers what the status follows from. The lock is held.
func (w *worker) facts() facts {
	return facts{
		pod: w.pod, sandbox: w.sandbox, containers: w.containers, failure: w.failure, stopped: w.stopped,
		ended: w.emptied && !w.static, before: w.status,
		nodeIPs: w.k.cfg.NodeIPs, startTime: w.startTime, now: timeNow(),
	}
}

// phase is the pod's phase as of now. The lock is held.
func (w *worker) phase() corev1.PodPhase { return w.facts().phase() }

// publish computes the status anew and has it written when it is another one. It does not wait for the
// API server: a container's start must not be slower because of it, and of several changes in a row
// only the last one is written.
func (w *worker) publish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	status := podStatus(w.facts())
	api := w.apiPod()
	if w.static {
		// Nobody else keeps it: the next status builds on this one.
		kept := *w.pod
		kept.Status = status
		w.pod = &kept
	}
	if api == nil {
		w.published, w.dirty = false, false
		return
	}
	// What the API server made of the last write may differ in a detail; to write the same again would
	// not change that. But when somebody else changed it (the node lifecycle controller declares pods of
	// a silent node unready), the truth has to be told once more.
	unchanged := w.published && equality.Semantic.DeepEqual(status, w.status)
	if unchanged && (w.dirty || w.writing || equality.Semantic.DeepEqual(api.Status, w.accepted)) {
		return
	}
	before := api.Status.Phase
	if w.published {
		before = w.status.Phase
	}
	w.k.counts.podRuns(before, status.Phase, w.seen)
	w.status, w.published = status, true
	if equality.Semantic.DeepEqual(status, api.Status) {
		w.accepted = api.Status
		return
	}
	w.dirty = true
	if !w.writing {
		w.writing, w.written = true, make(chan struct{})
		go w.writeStatus()
	}
}

// apiPod is the object whose status is written: the pod, or a static pod's mirror, nil while there is
// none. The lock is held.
func (w *worker) apiPod() *corev1.Pod {
	if w.static {
		return w.mirror
	}
	return w.pod
}

// writeStatus writes until the API server knows the newest status.
func (w *worker) writeStatus() {
	var retry quickRetry
	for {
		w.mu.Lock()
		api := w.apiPod()
		if !w.dirty || w.gone || api == nil || w.k.ctx.Err() != nil {
			w.writing = false
			close(w.written)
			w.mu.Unlock()
			return
		}
		w.dirty = false
		pod := api.DeepCopy()
		pod.Status = withForeignConditions(w.status, api.Status)
		w.mu.Unlock()
		if err := w.putStatus(pod); err != nil {
			slog.Debug("Writing pod status", "pod", podName(pod), "error", err)
			w.mu.Lock()
			w.dirty = true
			w.mu.Unlock()
			select {
			case <-time.After(retry.next()):
			case <-w.k.ctx.Done():
			}
		}
	}
}

// putStatus writes once. After a conflict the newest object is read, and the next try builds on that.
func (w *worker) putStatus(pod *corev1.Pod) error {
	pods := w.k.client.CoreV1().Pods(pod.Namespace)
	written, err := pods.UpdateStatus(w.k.ctx, pod, metav1.UpdateOptions{})
	switch {
	case err == nil:
		w.mu.Lock()
		w.accepted = written.Status
		w.mu.Unlock()
		w.learn(written)
		return nil
	case apierrors.IsNotFound(err):
		return nil // the watch will say so, too
	case apierrors.IsConflict(err):
		live, getErr := pods.Get(w.k.ctx, pod.Name, metav1.GetOptions{})
		if getErr != nil || live.UID != pod.UID {
			return nil
		}
		w.learn(live)
		w.mu.Lock()
		w.dirty = true
		w.mu.Unlock()
		return nil
	default:
		return err
	}
}

// learn takes a newer version of the pod from an answer, and drops what nobody reads here.
func (w *worker) learn(pod *corev1.Pod) {
	pod.ManagedFields = nil
	if w.static {
		w.mirrored(pod, false)
		return
	}
	w.update(pod)
}

// withForeignConditions adds conditions which others set meanwhile (readiness gates, the scheduler).
func withForeignConditions(status, live corev1.PodStatus) corev1.PodStatus {
	status = *status.DeepCopy()
	for _, condition := range live.Conditions {
		switch condition.Type {
		case corev1.PodReadyToStartContainers, corev1.PodInitialized, corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled:
			continue
		}
		found := false
		for i := range status.Conditions {
			if status.Conditions[i].Type == condition.Type {
				status.Conditions[i], found = condition, true
			}
		}
		if !found {
			status.Conditions = append(status.Conditions, condition)
		}
	}
	return status
}

// flushStatus waits until the newest status is written, or the pod is gone.
func (w *worker) flushStatus() {
	w.publish()
	w.mu.Lock()
	written := w.written
	idle := !w.writing
	w.mu.Unlock()
	if idle {
		return
	}
	select {
	case <-written:
	case <-w.k.ctx.Done():
	}
}

// newerVersion compares resource versions, which are numbers that grow (KEP-5504).
func newerVersion(a, b metav1.Object) bool {
	x, errX := strconv.ParseUint(a.GetResourceVersion(), 10, 64)
	y, errY := strconv.ParseUint(b.GetResourceVersion(), 10, 64)
	return errX != nil || errY != nil || x > y
}
