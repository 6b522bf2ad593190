package world

import (
	"fmt"
	goruntime "runtime"
	"strconv"

	"github.com/podarium/podarium/machine/components"
)

// Process is one component on a node, as PID 1 of the node starts it and
// starts it again whenever it ends.
type Process struct {
	components.Process
	// APISocket is set for the process that serves the machine's listener on
	// 127.0.0.1 (systemd's socket activation: file descriptor 3, LISTEN_FDS=1).
	APISocket bool
}

// Cluster is what all components of a lab are told about it.
func (c Config) Cluster() components.Cluster {
	return components.Cluster{
		ControlPlane: c.NodeIP(1), ClusterCIDR: c.ClusterCIDR, ServiceClusterIPRange: c.ServiceClusterIPRange,
		ProxyMode: c.ProxyMode, PodNetwork: c.PodNetwork, EtcdServers: c.EtcdServers, Verbosity: c.Verbosity,
	}
}

// Components lists what runs on a node: the processes that a machine of its own
// runs too, with a few flags more. The order is that of the data flow; all of
// them start at once.
func Components(cfg Config, number int) []Process {
	cluster, node := cfg.Cluster(), components.Node{Name: NodeName(number), IP: cfg.NodeIP(number)}
	var list []Process
	if number == 1 {
		list = append(
			list,
			Process{components.APIServer(cluster), true},
			// 50 s by default: long, for somebody who waits for it
			Process{Process: components.ControllerManager(cluster).With("--node-monitor-grace-period=12s")},
			Process{Process: components.Scheduler(cluster)},
		)
	}
	list = append(list, Process{Process: components.Kubelet(cluster, node).With(
		"--cgroup-root="+cgroupRoot(cfg, number),
		"--max-pods="+strconv.Itoa(cfg.MaxPods),
		"--parallel-pod-starts="+strconv.Itoa(parallelStarts(goruntime.NumCPU(), cfg.Nodes)),
		"--node-lease-duration=10", // a heartbeat every 2.5 s, for the short grace period
		"--image-pull-proxy=unix://"+egressSocket,
		// All nodes share one disk, which is not theirs: a developer's is often 90 % full, and a lab on it
		// has to work; no node can make room there by evicting its pods. Memory stays: it is the
		// lab's own pods which may take the last of it.
		"--eviction-hard=memory.available<100Mi,nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%,imagefs.inodesFree<0%",
	)})
	if cfg.ProxyMode != "none" {
		list = append(list, Process{Process: components.Proxy(cluster, node)})
	}
	return list
}

// cgroupRoot is where the containers of a node are in every hierarchy:
// /podarium-lab/node-1.
func cgroupRoot(cfg Config, number int) string {
	return fmt.Sprintf("/podarium-%s/%s", cfg.Name, NodeName(number))
}

// parallelStarts is a node's share of the machine's processors, as all nodes start pods on the same ones.
func parallelStarts(processors, nodes int) int { return (processors + nodes - 1) / nodes }
