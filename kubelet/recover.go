package kubelet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/podarium/podarium/kubelet/runtime"
	"github.com/podarium/podarium/kubelet/shim"
)

// leftover is what the disk tells of a pod which an earlier kubelet ran.
type leftover struct {
	uid     string
	sandbox *sandboxRecord
	records []runtime.Record
}

// recover reads what an earlier kubelet left: the pods which the API server still assigns to this node
// go on as if nothing had happened, all else is removed once the API server has been heard.
func (k *Kubelet) recover(ctx context.Context) error {
	k.sweepLogLinks()
	entries, err := os.ReadDir(filepath.Join(k.cfg.RootDir, "pods"))
	if err != nil {
		return fmt.Errorf("find pods of an earlier kubelet: %w", err)
	}
	at := func(uid string) *leftover {
		found := k.found[types.UID(uid)]
		if found == nil {
			found = &leftover{uid: uid}
			k.found[types.UID(uid)] = found
		}
		return found
	}
	for _, entry := range entries {
		found := at(entry.Name())
		record := &sandboxRecord{}
		record.dirs = k.podDirs(entry.Name())
		err := shim.ReadFile(record.file(), record)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read sandbox of an earlier kubelet: %w", err)
		}
		found.sandbox = record
	}
	records, half, err := k.runtime.Records()
	if err != nil {
		return err
	}
	for _, id := range half {
		slog.Info("Removing half-made container", "id", id)
		if err := k.removeContainer(ctx, id); err != nil {
			return err
		}
	}
	for _, record := range records {
		if err := k.runtime.Settle(record); err != nil {
			return err
		}
		if err := k.images.Mark(record.ID, imageDigest(record), k.imageUser(record.PodNamespace, record.PodName, record.Name)); err != nil {
			return err
		}
		found := at(record.PodUID)
		found.records = append(found.records, record)
	}
	orphans, err := k.runtime.Orphans()
	if err != nil {
		return err
	}
	for _, id := range orphans {
		if err := k.runtime.Release(ctx, id); err != nil {
			slog.Warn("Removing container without a pod", "id", id, "error", err)
		}
	}
	if len(k.found) > 0 {
		slog.Info("Found pods of an earlier kubelet", "pods", len(k.found), "containers", len(records))
	}
	return nil
}

// adopt takes over what is on disk of a pod.
func (w *worker) adopt(found *leftover) {
	if s := found.sandbox; s != nil {
		if sandboxAlive(*s) {
			w.sandbox = s
			if w.static { // the API server may not know it
				w.startTime = second(s.Created)
			}
		} else if err := w.k.removeSandbox(w.k.ctx, *s); err != nil {
			slog.Warn("Removing dead sandbox", "pod", podName(w.pod), "error", err)
		}
	}
	if w.failure == nil {
		w.failure = w.savedEviction()
	}
	found.records = slices.DeleteFunc(found.records, w.neverStarted)
	newest := map[string]runtime.Record{}
	for _, record := range found.records {
		if have, ok := newest[record.Name]; !ok || have.Attempt < record.Attempt {
			newest[record.Name] = record
		}
	}
	for _, record := range found.records {
		if newest[record.Name].ID != record.ID {
			w.forgetOld(record)
		}
	}
	for _, record := range newest {
		w.adoptContainer(record)
	}
	// The volumes are on disk; making them once more finds them unchanged.
	w.stale = true
}

// neverStarted removes a container which the earlier kubelet had created and not started when it died.
// If its shim lives, it was started, and only the note of that is missing.
func (w *worker) neverStarted(record runtime.Record) bool {
	if !record.Started.IsZero() || w.k.runtime.Alive(record.ID) {
		return false
	}
	if _, ended := w.k.runtime.Exited(record.ID); ended {
		return false
	}
	if err := w.k.removeContainer(w.k.ctx, record.ID); err != nil {
		slog.Warn("Removing half-made container", "container", record.Name, "error", err)
	}
	return true
}

func (w *worker) adoptContainer(record runtime.Record) {
	if record.Started.IsZero() {
		record.Started = record.Created
	}
	have := &container{record: record, exited: make(chan struct{})}
	have.last = lastTermination(w.pod, record.Name)
	w.containers[record.Name] = have
	exit, ended := w.k.runtime.Exited(record.ID)
	sameSandbox := w.sandbox != nil && w.sandbox.ID == record.SandboxID
	c := findContainer(w.pod, record.Name)
	switch {
	case record.StartError != "":
		have.reason, have.message = "StartError", record.StartError
		have.exit = &shim.Exit{Code: 128, Finished: record.Started}
	case ended:
		have.exit = &exit
		if c != nil {
			have.message = terminationMessage(record, exit, c.TerminationMessagePolicy)
		}
	case !sameSandbox: // the node went down with it
		have.exit = &shim.Exit{Code: 255, Finished: time.Now().UTC()}
		have.reason = "Unknown"
		if err := shim.WriteFile(w.k.runtime.FilePath(record.ID, shim.ExitFile), have.exit); err != nil {
			slog.Warn("Writing exit status", "container", record.Name, "error", err)
		}
	default:
		have.running = true
		w.k.linkLog(record) // the earlier kubelet may have died before it did
		have.started, have.ready = previousReadiness(w.pod, record.Name)
		go w.watch(have, record)
		if c != nil {
			w.startProbes(w.pod, c, have)
		}
		return
	}
	close(have.exited)
	have.restart.since = have.exit.Finished
	if err := w.k.runtime.Release(w.k.ctx, record.ID); err != nil {
		slog.Warn("Releasing ended container", "container", record.Name, "error", err)
	}
	if !sameSandbox && c != nil && isInit(w.pod, c) && !terminal(w.pod.Status.Phase) {
		have.exit = &shim.Exit{Code: 255, Finished: have.exit.Finished} // a new sandbox is initialized anew
		have.reason = "Unknown"
	}
}

func statusOf(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			if list[i].Name == name {
				return &list[i]
			}
		}
	}
	return nil
}

func lastTermination(pod *corev1.Pod, name string) *corev1.ContainerStateTerminated {
	if status := statusOf(pod, name); status != nil {
		return status.LastTerminationState.Terminated
	}
	return nil
}

// previousReadiness is what the kubelet before this one found out by probing.
func previousReadiness(pod *corev1.Pod, name string) (started, ready bool) {
	status := statusOf(pod, name)
	if status == nil {
		return false, false
	}
	return status.Started != nil && *status.Started, status.Ready
}

// removeLeftovers removes the pods on disk which the API server does not know.
func (k *Kubelet) removeLeftovers(ctx context.Context) {
	k.mu.Lock()
	found := k.found
	k.found = map[types.UID]*leftover{}
	k.mu.Unlock()
	for uid, pod := range found {
		slog.Info("Removing what is left of a deleted pod", "uid", uid)
		if err := k.dismantleLeftover(context.WithoutCancel(ctx), pod); err != nil {
			slog.Warn("Removing what is left of a pod", "uid", uid, "error", err)
		}
	}
}
