package kubelet

import (
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/kubelet/runtime"
)

// measurement is what a node, a pod or a container has taken up to a moment.
type measurement struct {
	runtime.Usage
	at      time.Time
	started time.Time
}

// podMeasurement is a pod's, with those of its running containers.
type podMeasurement struct {
	measurement
	pod        *corev1.Pod
	containers []containerMeasurement // by name
	network    string                 // file with the counters of its interfaces; empty: the node's own
	known      bool                   // the kernel knows its control group
}

type containerMeasurement struct {
	measurement
	name string
}

// measure reads the control groups of all pods which run, sorted by namespace and name.
func (k *Kubelet) measure() []podMeasurement {
	k.mu.Lock()
	workers := make([]*worker, 0, len(k.workers))
	for _, w := range k.workers {
		workers = append(workers, w)
	}
	k.mu.Unlock()
	var pods []podMeasurement
	for _, w := range workers {
		if m, ok := w.measure(); ok {
			pods = append(pods, m)
		}
	}
	slices.SortFunc(pods, func(a, b podMeasurement) int { return strings.Compare(podName(a.pod), podName(b.pod)) })
	return pods
}

// measure is false for a pod without a running container.
func (w *worker) measure() (podMeasurement, bool) {
	w.mu.Lock()
	m := podMeasurement{pod: w.pod}
	m.started = w.startTime.Time
	if w.sandbox == nil {
		w.mu.Unlock()
		return m, false
	}
	cgroup, ownNetwork := w.sandbox.Cgroup, !w.sandbox.HostNetwork
	var running []runtime.Record
	for _, have := range w.containers {
		if have.running {
			running = append(running, have.record)
		}
	}
	w.mu.Unlock()
	for _, record := range running {
		usage, ok := usageOf(cgroup + "/" + record.ID)
		if !ok {
			continue
		}
		usage.started = record.Started
		m.containers = append(m.containers, containerMeasurement{usage, record.Name})
		if ownNetwork {
			m.network = w.k.runtime.NetworkCounters(record.ID)
		}
	}
	usage, ok := usageOf(cgroup)
	usage.started = m.started
	m.measurement, m.known = usage, ok
	slices.SortFunc(m.containers, func(a, b containerMeasurement) int { return strings.Compare(a.name, b.name) })
	return m, ok && len(m.containers) > 0
}

// usageOf is false for a group that is gone: its container ended just now.
func usageOf(cgroup string) (measurement, bool) {
	usage, err := runtime.CgroupUsage(cgroup)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		slog.Warn("Measuring", "error", err)
	}
	return measurement{Usage: usage, at: time.Now()}, err == nil
}
