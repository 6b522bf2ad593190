package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// minGrace is what a container has after its preStop hook used up all of the time.
const minGrace = 2 * time.Second

// deletionGrace is how long a pod may take to end: what the deletion says, else what the pod says.
func deletionGrace(pod *corev1.Pod) time.Duration {
	if pod.DeletionGracePeriodSeconds != nil {
		return time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	}
	return defaultGrace(pod)
}

func defaultGrace(pod *corev1.Pod) time.Duration {
	if pod.Spec.TerminationGracePeriodSeconds != nil {
		return time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
	}
	return 30 * time.Second
}

// terminate ends the pod and removes all of it: containers, network, mounts, API object, in this order,
// so that nobody sees the object gone while something still runs.
func (w *worker) terminate(pod *corev1.Pod, gone bool) time.Duration {
	grace := deletionGrace(pod)
	if gone && pod.DeletionTimestamp == nil {
		grace = defaultGrace(pod)
	}
	w.killAll(pod, w.failureGrace(grace))
	w.publish()
	if err := w.dismantle(pod, true); err != nil {
		slog.Warn("Removing pod", "pod", podName(pod), "error", err)
		w.k.event(pod, "", corev1.EventTypeWarning, "FailedKillPod", "error killing pod: "+err.Error())
		return w.deleteRetry.next()
	}
	w.mu.Lock()
	w.emptied = true
	w.mu.Unlock()
	w.flushStatus()
	if !gone {
		if err := w.deleteObject(pod); err != nil {
			slog.Warn("Deleting pod object", "pod", podName(pod), "error", err)
			return w.deleteRetry.next()
		}
	}
	w.k.objects.release(w.uid)
	w.k.tokens.release(w.uid)
	w.mu.Lock()
	w.finished = true
	w.mu.Unlock()
	w.cleanedUp()
	slog.Info("Pod removed", "pod", podName(pod))
	return never
}

// deleteObject removes the API object at once, if it is still this pod and not another of its name.
func (w *worker) deleteObject(pod *corev1.Pod) error {
	now, uid := int64(0), w.uid
	err := w.k.client.CoreV1().Pods(pod.Namespace).Delete(w.k.ctx, pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: &now, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// stop is for a pod which has come to its end and is not deleted: its network and its volumes go, its status,
// its logs and its containers' records stay.
func (w *worker) stop(pod *corev1.Pod) time.Duration {
	select {
	case <-w.cleaned:
		w.publish()
		w.empty(pod)
		return never
	default:
	}
	w.killAll(pod, w.failureGrace(defaultGrace(pod)))
	w.publish() // while the status still has the addresses of the sandbox
	if err := errors.Join(w.dismantle(pod, false), w.k.podDirs(string(w.uid)).removeVolumes()); err != nil {
		slog.Warn("Stopping pod", "pod", podName(pod), "error", err)
		return w.deleteRetry.next()
	}
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.publish()
	w.cleanedUp()
	w.empty(pod)
	return never
}

// dismantle removes the sandbox, and with all also containers, volumes and logs.
func (w *worker) dismantle(pod *corev1.Pod, all bool) error {
	w.mu.Lock()
	sandbox := w.sandbox
	var ids []string
	for _, have := range w.containers {
		if have.record.ID != "" {
			ids = append(ids, have.record.ID)
		}
	}
	w.mu.Unlock()
	// Not the context of the kubelet: half of a removal is worse than a late end.
	ctx := context.WithoutCancel(w.k.ctx)
	if all {
		for _, id := range ids {
			if err := w.k.removeContainer(ctx, id); err != nil {
				return err
			}
		}
	}
	if sandbox != nil {
		if err := w.k.removeSandbox(ctx, *sandbox); err != nil {
			return err
		}
		w.mu.Lock()
		w.sandbox = nil
		w.stopped = true
		w.mu.Unlock()
	}
	if !all {
		return nil
	}
	if err := w.k.podDirs(string(w.uid)).remove(); err != nil {
		return err
	}
	if err := os.RemoveAll(w.k.logDir(pod)); err != nil {
		return err
	}
	w.k.sweepLogLinks()
	return nil
}

// killAll ends all containers: first the ordinary ones together, then the sidecars, last one first.
func (w *worker) killAll(pod *corev1.Pod, grace time.Duration) {
	deadline := time.Now().Add(grace)
	var together sync.WaitGroup
	for _, c := range everyContainer(pod) {
		if isInit(pod, c) && isSidecar(c) {
			continue
		}
		if have := w.runningContainer(c.Name); have != nil {
			together.Go(func() { w.kill(pod, c, have, time.Until(deadline), "") })
		}
	}
	together.Wait()
	for i := len(pod.Spec.InitContainers) - 1; i >= 0; i-- {
		c := &pod.Spec.InitContainers[i]
		if have := w.runningContainer(c.Name); have != nil {
			w.kill(pod, c, have, time.Until(deadline), "")
		}
	}
}

func (w *worker) runningContainer(name string) *container {
	w.mu.Lock()
	defer w.mu.Unlock()
	if have := w.containers[name]; have != nil && have.running {
		return have
	}
	return nil
}

// kill ends one container: preStop hook, its stop signal, and SIGKILL when its time is over. It returns
// when the container has ended. why explains it in the event; empty means: the pod ends.
func (w *worker) kill(pod *corev1.Pod, c *corev1.Container, have *container, grace time.Duration, why string) {
	w.mu.Lock()
	record, exited := have.record, have.exited
	if have.healing != nil {
		have.healing()
	}
	w.mu.Unlock()
	if why == "" {
		why = "Stopping container " + c.Name
	}
	w.k.event(pod, containerPath(pod, c), corev1.EventTypeNormal, "Killing", why)
	deadline := time.Now().Add(grace)
	if hook := c.Lifecycle; hook != nil && hook.PreStop != nil && grace > 0 {
		ctx, cancel := context.WithDeadline(w.k.ctx, deadline)
		err := w.runHook(ctx, pod, c, record.ID, hook.PreStop)
		cancel()
		if err != nil {
			w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "FailedPreStopHook", "PreStopHook failed")
		}
		if least := time.Now().Add(minGrace); deadline.Before(least) {
			deadline = least
		}
	}
	if grace > 0 {
		rest := time.Until(deadline)
		if err := w.k.runtime.Signal(w.k.ctx, record.ID, stopSignal(c)); err != nil {
			slog.Warn("Signalling container", "container", c.Name, "pod", podName(pod), "error", err)
		}
		if w.awaitExit(exited, time.Now().Add(rest)) { // the signal's own way takes nothing of it
			return
		}
	}
	if err := w.k.runtime.Signal(w.k.ctx, record.ID, syscall.SIGKILL); err != nil {
		slog.Warn("Killing container", "container", c.Name, "pod", podName(pod), "error", err)
	}
	select {
	case <-exited:
	case <-w.k.ctx.Done():
	}
}

// awaitExit waits until the deadline, which comes nearer when the pod's deletion is hurried.
func (w *worker) awaitExit(exited <-chan struct{}, deadline time.Time) bool {
	for {
		w.mu.Lock()
		hurry, pod, failure := w.hurry, w.pod, w.failure
		w.mu.Unlock()
		if pod.DeletionTimestamp != nil {
			// The deletion timestamp is the moment at which the grace is over.
			if end := pod.DeletionTimestamp.Time; end.Before(deadline) && deletionGrace(pod) < time.Until(deadline) {
				deadline = time.Now().Add(deletionGrace(pod))
			}
		}
		if failure != nil && !failure.until.IsZero() && failure.until.Before(deadline) {
			deadline = failure.until
		}
		timer := time.NewTimer(time.Until(deadline))
		select {
		case <-exited:
			timer.Stop()
			return true
		case <-hurry:
			timer.Stop()
			w.mu.Lock()
			gone := w.gone
			w.mu.Unlock()
			if gone {
				return false
			}
		case <-timer.C:
			return false
		case <-w.k.ctx.Done():
			timer.Stop()
			return true
		}
	}
}

// stopSignal is SIGTERM, or what the container's lifecycle says instead.
func stopSignal(c *corev1.Container) syscall.Signal {
	if c.Lifecycle == nil || c.Lifecycle.StopSignal == nil {
		return syscall.SIGTERM
	}
	if number, ok := signals[string(*c.Lifecycle.StopSignal)]; ok {
		return number
	}
	return syscall.SIGTERM
}

var signals = map[string]syscall.Signal{
	"SIGHUP": syscall.SIGHUP, "SIGINT": syscall.SIGINT, "SIGQUIT": syscall.SIGQUIT, "SIGKILL": syscall.SIGKILL,
	"SIGUSR1": syscall.SIGUSR1, "SIGUSR2": syscall.SIGUSR2, "SIGTERM": syscall.SIGTERM, "SIGWINCH": syscall.SIGWINCH,
}

// restartChanged replaces a container whose image was changed in the API.
func (w *worker) restartChanged(pod *corev1.Pod, c *corev1.Container) {
	if have := w.runningContainer(c.Name); have != nil {
		w.mu.Lock()
		busy := have.reason != ""
		have.reason, have.again = "Completed", true
		w.mu.Unlock()
		if !busy {
			w.kill(pod, c, have, defaultGrace(pod), fmt.Sprintf("Container %s definition changed, will be restarted", c.Name))
		}
	}
}

// dismantleLeftover removes a pod of which only the disk knows.
func (k *Kubelet) dismantleLeftover(ctx context.Context, found *leftover) error {
	var errs []error
	for _, record := range found.records {
		if _, ended := k.runtime.Exited(record.ID); !ended {
			if err := k.runtime.Signal(ctx, record.ID, syscall.SIGKILL); err != nil {
				slog.Debug("Killing leftover container", "id", record.ID, "error", err)
			}
		}
		errs = append(errs, k.removeContainer(ctx, record.ID))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if found.sandbox != nil {
		if err := k.removeSandbox(ctx, *found.sandbox); err != nil {
			return err
		}
	}
	logs, err := filepath.Glob(filepath.Join(k.cfg.LogDir, "*_"+found.uid))
	if err != nil {
		return err
	}
	for _, dir := range logs {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove logs of pod: %w", err)
		}
	}
	k.sweepLogLinks()
	return k.podDirs(found.uid).remove()
}
