package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/miekg/dns"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/podarium/podarium/internal/netns"
	"github.com/podarium/podarium/lab/world"
)

// waitNodes watches until as many nodes are Ready as the lab has, and each has
// sent a heartbeat since a given moment: in the state of a lab that was up
// before, nodes may still be called Ready which have not started yet.
func waitNodes(ctx context.Context, client kubernetes.Interface, want int, since time.Time) error {
	beats := map[string]bool{}
	leases := cache.NewListWatchFromClient(client.CoordinationV1().RESTClient(), "leases", corev1.NamespaceNodeLease, fields.Everything())
	_, err := watchtools.UntilWithSync(ctx, leases, &coordinationv1.Lease{}, nil, func(event watch.Event) (bool, error) {
		if lease, ok := event.Object.(*coordinationv1.Lease); ok && lease.Spec.RenewTime != nil && lease.Spec.RenewTime.After(since) {
			beats[lease.Name] = true
		}
		return len(beats) >= want, nil
	})
	if err != nil {
		return fmt.Errorf("wait for heartbeats of %d nodes (so far: %v): %w", want, slices.Sorted(maps.Keys(beats)), err)
	}
	ready := map[string]bool{}
	nodes := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", "", fields.Everything())
	_, err = watchtools.UntilWithSync(ctx, nodes, &corev1.Node{}, nil, func(event watch.Event) (bool, error) {
		if node, ok := event.Object.(*corev1.Node); ok && nodeReady(node) {
			ready[node.Name] = true
		}
		return len(ready) >= want, nil
	})
	if err != nil {
		return fmt.Errorf("wait for %d nodes to be Ready (so far: %v): %w", want, slices.Sorted(maps.Keys(ready)), err)
	}
	return nil
}

func nodeReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// waitDNSPod watches until one pod of kube-dns, started since a given moment,
// is Ready, and returns it with a process of it. One that runs: started in the
// very second in which the lab went down, a pod would seem to be of this run.
func waitDNSPod(ctx context.Context, cfg world.Config, client kubernetes.Interface, since time.Time) (*corev1.Pod, int, error) {
	lw := cache.NewFilteredListWatchFromClient(client.CoreV1().RESTClient(), "pods", metav1.NamespaceSystem,
		func(o *metav1.ListOptions) { o.LabelSelector = "k8s-app=kube-dns" })
	pid := 0
	event, err := watchtools.UntilWithSync(ctx, lw, &corev1.Pod{}, nil, func(event watch.Event) (bool, error) {
		pod, ok := event.Object.(*corev1.Pod)
		if !ok || !podReady(pod) || !runsSince(pod, since) {
			return false, nil
		}
		var err error
		pid, err = podPID(cfg, pod)
		return pid != 0, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("wait for a pod of kube-dns to be Ready: %w", err)
	}
	return event.Object.(*corev1.Pod), pid, nil
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// runsSince compares whole seconds: the API keeps no finer ones.
func runsSince(pod *corev1.Pod, since time.Time) bool {
	for _, c := range pod.Status.ContainerStatuses {
		if c.State.Running == nil || c.State.Running.StartedAt.Time.Before(since.Truncate(time.Second)) {
			return false
		}
	}
	return len(pod.Status.ContainerStatuses) > 0
}

// dnsTry is how long one question may wait for its answer; the rules of the
// Service may come a moment after the pod is Ready.
const dnsTry = 50 * time.Millisecond

// waitDNSAnswer asks kube-dns's ClusterIP, from the network namespace of a
// pod's process, for the API server: name → DNAT → pod → record, the whole way of a
// lookup. It asks until it is answered.
func waitDNSAnswer(ctx context.Context, cfg world.Config, pid int) (string, error) {
	inPod := filepath.Join("/proc", strconv.Itoa(pid), "ns", "net")
	server := net.JoinHostPort(cfg.Cluster().DNSIP().String(), "53")
	question := new(dns.Msg).SetQuestion("kubernetes.default.svc.cluster.local.", dns.TypeA)
	var last error
	for ctx.Err() == nil {
		began := time.Now()
		var answer string
		if answer, last = askDNS(ctx, inPod, server, question); last == nil {
			return answer, nil
		}
		select { // refused comes back at once: the next try waits its turn
		case <-ctx.Done():
		case <-time.After(dnsTry/10 - time.Since(began)):
		}
	}
	return "", fmt.Errorf("ask %s for kubernetes.default: %w", server, errors.Join(ctx.Err(), last))
}

func askDNS(ctx context.Context, namespace, server string, question *dns.Msg) (string, error) {
	conn, err := netns.Dial(ctx, namespace, "udp", server)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	client := dns.Client{Timeout: dnsTry}
	answer, _, err := client.ExchangeWithConn(question, &dns.Conn{Conn: conn})
	if err != nil {
		return "", err
	}
	for _, record := range answer.Answer {
		if a, ok := record.(*dns.A); ok {
			return a.A.String(), nil
		}
	}
	return "", fmt.Errorf("answer without an address: %s", dns.RcodeToString[answer.Rcode])
}

// podPID is a process of a pod, as the machine counts: one whose cgroup is the
// pod's. 0: it has none.
func podPID(cfg world.Config, pod *corev1.Pod) (int, error) {
	root, err := NodePID(cfg.Name, pod.Spec.NodeName)
	if err != nil {
		return 0, err
	}
	list, err := descendants(root)
	if err != nil {
		return 0, err
	}
	for _, p := range list {
		if inPodCgroup(p.PID, string(pod.UID)) {
			return p.PID, nil
		}
	}
	return 0, nil
}
