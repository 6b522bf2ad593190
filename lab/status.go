package lab

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/lab/world"
)

// statusTimeout bounds what is asked of the API server, which may be down.
const statusTimeout = 3 * time.Second

// Status tells what a lab consists of now: nodes as the API knows them, their
// processes and memory.
func Status(ctx context.Context, name string, out io.Writer) error {
	cfg, err := world.Load(name)
	if err != nil {
		return err
	}
	pid, err := findWorld(name)
	if err != nil {
		return err
	}
	if pid == 0 {
		return fmt.Errorf("lab %s is not running: `podarium up` starts it again with its objects, `podarium down` removes it", name)
	}
	fmt.Fprintf(out, "lab %s: API server %s, kubectl context %q\n", name, cfg.HostURL(), cfg.Context())
	fmt.Fprintf(out, "pods %s (%s), services %s (%s)\n\n", cfg.ClusterCIDR, cfg.PodNetwork, cfg.ServiceClusterIPRange, cfg.ProxyMode)
	if err := ListNodes(ctx, name, out); err != nil {
		return err
	}
	return memory(pid, out)
}

// ListNodes prints a line per node. A node that is powered off has no process,
// and what the API says of it is the last that was heard.
func ListNodes(ctx context.Context, name string, out io.Writer) error {
	cfg, err := world.Load(name)
	if err != nil {
		return err
	}
	states, err := nodeStates(ctx, cfg)
	unknown := "Unknown"
	if err != nil {
		unknown = "Unknown (API server does not answer)"
	}
	table := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tSTATUS\tADDRESS\tPODS\tPID\tPROCESSES")
	for n := 1; n <= cfg.Nodes; n++ {
		node := world.NodeName(n)
		pid, err := findProcess(world.NodeArgv0, name, node)
		if err != nil {
			return err
		}
		state, ok := states[node]
		if !ok {
			state.ready = unknown
		}
		power, running := "off", "-"
		if pid != 0 {
			power = fmt.Sprint(pid)
			running = strings.Join(componentNames(cfg, n, pid), " ")
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", node, state.ready, cfg.NodeIP(n), state.podCIDR, power, running)
	}
	return table.Flush()
}

type nodeState struct{ ready, podCIDR string }

func nodeStates(ctx context.Context, cfg world.Config) (map[string]nodeState, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client, err := kube.Client(cfg.AdminKubeconfig(), "podarium")
	if err != nil {
		return nil, err
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	states := map[string]nodeState{}
	for _, node := range list.Items {
		states[node.Name] = nodeState{readyWord(&node), node.Spec.PodCIDR}
	}
	return states, nil
}

// readyWord is kubectl's STATUS column for a node.
func readyWord(node *corev1.Node) string {
	if nodeReady(node) {
		return "Ready"
	}
	return "NotReady"
}

// componentNames lists which of a node's components run right now.
func componentNames(cfg world.Config, number, initPID int) []string {
	list, err := descendants(initPID)
	if err != nil {
		return nil
	}
	running := map[string]bool{}
	for _, p := range list {
		if p.PPID == initPID {
			running[filepath.Base(p.Args[0])] = true
		}
	}
	var names []string
	for _, p := range world.Components(cfg, number) {
		if running[p.Name] {
			names = append(names, p.Name)
		} else {
			names = append(names, "("+p.Name+" is down)")
		}
	}
	return names
}

// memory sums the proportional set sizes of everything in the world.
func memory(world int, out io.Writer) error {
	list, err := descendants(world)
	if err != nil {
		return err
	}
	total := map[string]int64{}
	var sum int64
	var order []string
	for _, p := range list {
		name := filepath.Base(p.Args[0])
		if _, ok := total[name]; !ok {
			order = append(order, name)
		}
		size := pss(p.PID)
		total[name] += size
		sum += size
	}
	fmt.Fprintf(out, "\nmemory %d MiB in %d processes:", sum>>20, len(list))
	for _, name := range order {
		fmt.Fprintf(out, " %s %d", name, total[name]>>20)
	}
	fmt.Fprintln(out)
	return nil
}
