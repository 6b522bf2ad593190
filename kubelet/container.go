package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/image"
	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// container is what the worker knows of one container of the pod: its newest attempt.
type container struct {
	record  runtime.Record // zero before the first attempt
	running bool
	exit    *shim.Exit // how the newest attempt ended
	again   bool       // it is started anew however it ends
	reason  string     // why it ended, when the kubelet knows better than the exit status
	message string     // its last words
	exited  chan struct{}

	last    *corev1.ContainerStateTerminated // the attempt before
	waiting *corev1.ContainerStateWaiting    // why it does not run
	started bool                             // startup probe passed
	ready   bool                             // readiness probe passes
	probes  context.CancelFunc               // ends all of them
	healing context.CancelFunc               // ends those which would restart it

	restart backoff
	pull    backoff
	pullOf  string // the image of which pull speaks
	pullErr string
	retry   quickRetry
	retryAt time.Time
}

// start brings a container to life. What goes wrong is noted as the reason why it waits; the return
// value says when to try again.
func (w *worker) start(pod *corev1.Pod, c *corev1.Container, have *container) time.Duration {
	id := newID()
	record, wait, ok := w.create(pod, c, have, id)
	if !ok {
		w.abandon(c, id)
		return wait
	}
	path := containerPath(pod, c)
	w.k.event(pod, path, corev1.EventTypeNormal, "Created", "Container created")
	err := w.k.runtime.Start(&record)
	w.k.starts.leave()
	if refused, ok := errors.AsType[*runtime.StartError](err); ok {
		return w.startFailed(pod, c, have, record, refused)
	}
	if err != nil {
		w.abandon(c, id)
		return w.cannotStart(pod, c, have, "RunContainerError", err)
	}
	w.k.linkLog(record)
	w.k.event(pod, path, corev1.EventTypeNormal, "Started", "Container started")
	w.k.counts.startedContainers.WithLabelValues(containerType(pod, c)).Inc()
	slog.Info("Container started", "pod", podName(pod), "container", c.Name, "attempt", record.Attempt)
	w.startedContainer(pod, c, have, record)
	return never
}

// create finds the image and lays out a container. When ok is true, the start of which it is a part has
// entered the gate.
func (w *worker) create(pod *corev1.Pod, c *corev1.Container, have *container, id string) (record runtime.Record, wait time.Duration, ok bool) {
	img, wait, ok := w.image(pod, c, have, id)
	if !ok {
		return record, wait, false
	}
	spec, err := w.containerSpec(pod, c, img)
	if err != nil {
		return record, w.cannotStart(pod, c, have, "CreateContainerConfigError", err), false
	}
	record = w.newRecord(pod, c, have, img, id)
	spec.CgroupPath = filepath.Join(podCgroup(w.k.cfg.CgroupRoot, pod), id)
	spec.Mounts = append(spec.Mounts, w.messageMount(c, &record)...)
	spec.Hold = w.k.images.MarkPath(id)
	if !w.k.starts.enter(w.alive, begunPod) {
		return record, never, false
	}
	err = w.k.runtime.Create(&record, spec)
	if err == nil {
		return record, 0, true
	}
	w.k.starts.leave()
	return record, w.cannotStart(pod, c, have, "CreateContainerError", err), false
}

// abandon removes what there is of a container which counts as no attempt.
func (w *worker) abandon(c *corev1.Container, id string) {
	if err := w.k.removeContainer(w.k.ctx, id); err != nil {
		slog.Error("Removing half-made container", "container", c.Name, "id", id, "error", err)
	}
}

// startedContainer notes a fresh start, watches the container and begins to probe it.
func (w *worker) startedContainer(pod *corev1.Pod, c *corev1.Container, have *container, record runtime.Record) {
	old := w.begin(have, record)
	go w.watch(have, record)
	if hook := c.Lifecycle; hook != nil && hook.PostStart != nil {
		if err := w.runHook(w.alive, pod, c, record.ID, hook.PostStart); err != nil {
			w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "FailedPostStartHook", "PostStartHook failed")
			w.mu.Lock()
			have.again = pod.Spec.RestartPolicy != corev1.RestartPolicyNever
			w.mu.Unlock()
			w.kill(pod, c, have, defaultGrace(pod), "FailedPostStartHook")
			return
		}
	}
	w.startProbes(pod, c, have)
	if old.ID != "" {
		w.forgetOld(old)
	}
}

// begin makes record the newest attempt and returns the one before.
func (w *worker) begin(have *container, record runtime.Record) runtime.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := have.record
	if have.exit != nil {
		have.last = terminatedState(have)
		have.restart = have.restart.longer()
	}
	have.record, have.running, have.exit, have.reason, have.message = record, true, nil, "", ""
	have.waiting, have.exited, have.again = nil, make(chan struct{}), false
	have.pull, have.retry, have.retryAt = backoff{}, quickRetry{}, time.Time{}
	return old
}

// forgetOld removes the attempt before the last: its log stays for kubectl logs --previous, older logs go.
func (w *worker) forgetOld(old runtime.Record) {
	if err := w.k.removeContainer(w.k.ctx, old.ID); err != nil {
		slog.Error("Removing old container", "container", old.Name, "pod", old.PodName, "error", err)
	}
	if old.Attempt > 0 {
		stale := filepath.Join(filepath.Dir(old.LogPath), strconv.Itoa(old.Attempt-1)+".log")
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			slog.Error("Removing old log", "path", stale, "error", err)
		}
		w.k.sweepLogLinks()
	}
}

// startFailed notes an attempt which runc refused: it counts as one that ended with status 128.
func (w *worker) startFailed(pod *corev1.Pod, c *corev1.Container, have *container, record runtime.Record, refused error) time.Duration {
	w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "Failed", "Error: "+refused.Error())
	w.k.counts.startFailures.WithLabelValues(containerType(pod, c), "RunContainerError").Inc()
	exit := shim.Exit{Code: 128, Finished: record.Started}
	if err := shim.WriteFile(w.k.runtime.FilePath(record.ID, shim.ExitFile), exit); err != nil {
		slog.Error("Writing exit status", "container", c.Name, "error", err)
	}
	if err := w.k.runtime.Release(w.k.ctx, record.ID); err != nil {
		slog.Error("Releasing container", "container", c.Name, "error", err)
	}
	old := w.begin(have, record)
	if old.ID != "" {
		w.forgetOld(old)
	}
	w.mu.Lock()
	have.running, have.exit = false, &exit
	have.reason, have.message = "StartError", refused.Error()
	have.restart.since = exit.Finished
	again := restarts(pod, c, exit.Code)
	if again {
		have.waiting = &corev1.ContainerStateWaiting{Reason: "RunContainerError", Message: refused.Error()}
	}
	close(have.exited)
	w.mu.Unlock()
	if !again {
		return 0
	}
	return max(0, have.restart.remaining(time.Now()))
}

// cannotStart notes why there is no attempt at all, and when to try again.
func (w *worker) cannotStart(pod *corev1.Pod, c *corev1.Container, have *container, reason string, err error) time.Duration {
	if w.alive.Err() != nil {
		return never
	}
	w.k.counts.startFailures.WithLabelValues(containerType(pod, c), reason).Inc()
	w.mu.Lock()
	defer w.mu.Unlock()
	if have.waiting == nil || have.waiting.Message != err.Error() {
		w.k.event(pod, containerPath(pod, c), corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
	}
	have.waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: err.Error()}
	wait := have.retry.next()
	have.retryAt = time.Now().Add(wait)
	return wait
}

func (w *worker) newRecord(pod *corev1.Pod, c *corev1.Container, have *container, img image.Image, id string) runtime.Record {
	w.mu.Lock()
	defer w.mu.Unlock()
	attempt := 0
	if have.record.ID != "" {
		attempt = have.record.Attempt + 1
	}
	return runtime.Record{
		ID: id, PodUID: string(pod.UID), PodNamespace: pod.Namespace, PodName: pod.Name, Name: c.Name,
		Attempt: attempt, SandboxID: w.sandbox.ID, Image: c.Image, ImageID: imageID(img), SpecHash: specHash(c),
		LogPath: filepath.Join(w.k.logDir(pod), c.Name, strconv.Itoa(attempt)+".log"),
		TTY:     c.TTY, Created: time.Now().UTC(),
	}
}

// runHook runs a postStart or preStop handler.
func (w *worker) runHook(ctx context.Context, pod *corev1.Pod, c *corev1.Container, id string, hook *corev1.LifecycleHandler) error {
	switch {
	case hook.Exec != nil:
		code, err := w.k.runtime.Exec(ctx, id, hook.Exec.Command, runtime.Streams{})
		if err == nil && code != 0 {
			err = fmt.Errorf("command exited with %d", code)
		}
		return err
	case hook.HTTPGet != nil:
		w.mu.Lock()
		ips := w.sandbox.IPs
		w.mu.Unlock()
		_, err := httpGet(ctx, c, hook.HTTPGet, ips[0], 0)
		return err
	case hook.Sleep != nil:
		select {
		case <-time.After(time.Duration(hook.Sleep.Seconds) * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	default:
		return nil
	}
}

// watch waits for the end of a running container and notes it.
func (w *worker) watch(have *container, record runtime.Record) {
	exit, ok := w.k.runtime.Wait(w.k.ctx, record.ID)
	if w.k.ctx.Err() != nil {
		return // the kubelet ends; the container does not
	}
	if !ok {
		slog.Warn("Container has lost its shim", "container", record.Name, "pod", record.PodName)
		exit = shim.Exit{Code: 137, Finished: time.Now().UTC()}
	}
	if err := w.k.runtime.Release(w.k.ctx, record.ID); err != nil {
		slog.Error("Releasing ended container", "container", record.Name, "pod", record.PodName, "error", err)
	}
	if !ok {
		if err := shim.WriteFile(w.k.runtime.FilePath(record.ID, shim.ExitFile), exit); err != nil {
			slog.Error("Writing exit status", "container", record.Name, "error", err)
		}
	}
	slog.Info("Container ended", "pod", record.PodNamespace+"/"+record.PodName, "container", record.Name, "exitCode", exit.Code)
	w.ended(have, record, exit)
}

func (w *worker) ended(have *container, record runtime.Record, exit shim.Exit) {
	w.mu.Lock()
	policy := corev1.TerminationMessageReadFile
	if c := findContainer(w.pod, record.Name); c != nil && c.TerminationMessagePolicy != "" {
		policy = c.TerminationMessagePolicy
	}
	have.running, have.ready, have.started = false, false, false
	have.exit, have.waiting = &exit, nil
	have.message = terminationMessage(record, exit, policy)
	if have.probes != nil {
		have.probes()
		have.probes = nil
	}
	if exit.Finished.Sub(record.Started) > backoffReset {
		have.restart = backoff{}
	}
	have.restart.since = exit.Finished
	close(have.exited)
	w.mu.Unlock()
	w.wakeUp()
}
