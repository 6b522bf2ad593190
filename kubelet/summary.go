package kubelet

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	statsv1 "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/podarium/podarium/kubelet/runtime"
)

// serveSummary answers /stats/summary: the node and its pods in one object.
func (k *Kubelet) serveSummary(w http.ResponseWriter, _ *http.Request) {
	node, err := k.nodeStats()
	if err != nil {
		slog.Warn("Measuring the node", "error", err)
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	summary := statsv1.Summary{Node: node, Pods: []statsv1.PodStats{}}
	for _, pod := range k.measure() {
		summary.Pods = append(summary.Pods, podStats(pod))
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(summary); err != nil {
		slog.Debug("Writing stats summary", "error", err)
	}
}

func (k *Kubelet) nodeStats() (statsv1.NodeStats, error) {
	usage, err := runtime.MachineUsage()
	if err != nil {
		return statsv1.NodeStats{}, err
	}
	m := measurement{Usage: usage, at: time.Now()}
	stats := statsv1.NodeStats{
		NodeName: k.cfg.NodeName, StartTime: metav1.NewTime(k.started),
		CPU: cpuStats(m), Memory: memoryStats(m), Network: networkStats("/proc/net/dev", m.at), Fs: k.diskStats(m.at),
	}
	available := uint64(max(0, k.memoryCapacity()-int64(m.WorkingSet)))
	stats.Memory.AvailableBytes = &available
	return stats, nil
}

func podStats(m podMeasurement) statsv1.PodStats {
	stats := statsv1.PodStats{
		PodRef:    statsv1.PodReference{Name: m.pod.Name, Namespace: m.pod.Namespace, UID: string(m.pod.UID)},
		StartTime: metav1.NewTime(m.started), CPU: cpuStats(m.measurement), Memory: memoryStats(m.measurement),
	}
	if m.network != "" {
		stats.Network = networkStats(m.network, m.at)
	}
	for _, c := range m.containers {
		stats.Containers = append(stats.Containers, statsv1.ContainerStats{
			Name: c.name, StartTime: metav1.NewTime(c.started), CPU: cpuStats(c.measurement), Memory: memoryStats(c.measurement),
		})
	}
	return stats
}

func cpuStats(m measurement) *statsv1.CPUStats {
	total := uint64(m.CPU.Nanoseconds())
	return &statsv1.CPUStats{Time: metav1.NewTime(m.at), UsageCoreNanoSeconds: &total}
}

func memoryStats(m measurement) *statsv1.MemoryStats {
	return &statsv1.MemoryStats{
		Time: metav1.NewTime(m.at), UsageBytes: &m.Memory, WorkingSetBytes: &m.WorkingSet, RSSBytes: &m.RSS,
		PageFaults: &m.PageFaults, MajorPageFaults: &m.MajorPageFaults,
	}
}

// diskStats is the file system with the state of all pods.
func (k *Kubelet) diskStats(at time.Time) *statsv1.FsStats {
	var disk unix.Statfs_t
	if err := unix.Statfs(k.cfg.RootDir, &disk); err != nil {
		return nil
	}
	size := uint64(disk.Bsize)
	capacity, available, used := disk.Blocks*size, disk.Bavail*size, (disk.Blocks-disk.Bfree)*size
	inodes, free := disk.Files, disk.Ffree
	inodesUsed := inodes - free
	return &statsv1.FsStats{
		Time: metav1.NewTime(at), CapacityBytes: &capacity, AvailableBytes: &available, UsedBytes: &used,
		Inodes: &inodes, InodesFree: &free, InodesUsed: &inodesUsed,
	}
}

// networkStats reads the counters of a network namespace; eth0 is the interface of a pod, and of a lab's
// node. The first two lines of the file are a heading:
//
//	eth0: 1296 16 0 0 0 0 0 0  1006 13 0 0 0 0 0 0
func networkStats(file string, at time.Time) *statsv1.NetworkStats {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	stats := statsv1.NetworkStats{Time: metav1.NewTime(at)}
	for line := range strings.Lines(string(data)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 16 || name == "lo" {
			continue
		}
		count := func(at int) *uint64 {
			n, err := strconv.ParseUint(fields[at], 10, 64)
			if err != nil {
				return nil
			}
			return &n
		}
		one := statsv1.InterfaceStats{Name: name, RxBytes: count(0), RxErrors: count(2), TxBytes: count(8), TxErrors: count(10)}
		stats.Interfaces = append(stats.Interfaces, one)
		if name == podInterface {
			stats.InterfaceStats = one
		}
	}
	return &stats
}
