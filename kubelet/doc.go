// Package kubelet is the node agent: it makes the pods which the API server assigns to its node, and
// tells the API server how they are.
//
// The life of a pod, and where to read on:
//
//  1. The watch on pods with spec.nodeName=THIS-NODE brings a pod (kubelet.go). It gets a worker, one
//     goroutine, which wakes up when something happened to its pod and otherwise sleeps: there is no
//     tick. What can happen: the API object changed, a container ended, a probe changed its mind, a
//     ConfigMap changed, a back-off is over (worker.go).
//  2. The worker writes the pod's volumes: directories, ConfigMaps, Secrets, a ServiceAccount token
//     (volumes.go, projected.go, token.go).
//  3. It makes the sandbox: namespaces kept by files, an address from the CNI plugin, resolv.conf and
//     hosts (sandbox.go, cni.go, dns.go).
//  4. Init containers run one after the other, then all containers start (restart.go, container.go):
//     pull the image (pull.go), work out environment, mounts and limits (environment.go, mounts.go,
//     containerspec.go), hand over to package runtime. Of 30 pods at once few start at the same time,
//     so that the first are ready early (gate.go).
//  5. Probes ask whether a container has started, is alive, is ready (probe.go).
//  6. After each step the status is computed anew from what is known (status.go, a pure function) and
//     written to the API server when it differs (statuswriter.go). A Service sends traffic to the pod
//     from the moment on at which its condition Ready became True.
//  7. A container that ends is started again, or not, by restartPolicy; each time later (backoff.go).
//  8. Deletion is a wish with a deadline: preStop hook, SIGTERM, wait, SIGKILL; network and mounts go;
//     at last the kubelet deletes the API object (termination.go).
//
// Containers do not need the kubelet once they run: each has a shim for its parent. A new kubelet finds
// them by their directories (recover.go) and goes on. After a reboot of the node only the directories
// are left; the pods get new sandboxes and their containers start once more.
//
// Not all pods come from the API server: the manifests in /etc/kubernetes/manifests make static pods,
// which the API server sees as mirrors (static.go, manifest.go).
//
// A pod may also have to go so that the others live on: the kubelet looks every few seconds at what is left of memory and
// disk (pressure.go), package eviction says which pod, and that pod's worker ends it (evicted.go).
//
// Beside the pods there are the node itself (node.go, lease.go), its images, of which the unused ones go when
// the disk is full (imagegc.go), and the kubelet's own API on port 10250, through which the API server
// fetches logs and runs commands (server.go, logs.go, streaming.go).
package kubelet
