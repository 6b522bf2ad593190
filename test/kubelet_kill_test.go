package test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/podarium/podarium/internal/kube"
)

// killSeed replays a run: PODARIUM_TEST_SEED=… with what the failed run printed.
const killSeed = "PODARIUM_TEST_SEED"

// TestKubeletKilled kills the kubelets of three nodes seven times each at random
// moments, while 100 pods are created there and half of them deleted. Afterwards
// exactly the wanted containers run, nothing of the others is left, and no
// container was started twice.
func TestKubeletKilled(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv(killSeed); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%s=%d", killSeed, seed)
	c := newChaos(t, "test-kill", seed)
	stay := c.create(t, "stay", 10)
	c.awaitReady(t, stay)
	before := c.containers(t, stay)

	var churn sync.WaitGroup
	churn.Go(func() { c.churn(100) })
	for _, node := range chaosNodes {
		churn.Go(func() { c.killKubelets(t, node, 7) })
	}
	churn.Wait()
	if c.err != nil {
		t.Fatal(c.err)
	}
	wanted := append(stay, c.kept...)
	c.awaitReady(t, wanted)
	c.awaitOnly(t, wanted)
	for _, node := range chaosNodes {
		c.checkNode(t, node)
	}
	after := c.containers(t, wanted)
	for name, id := range before {
		if after[name] != id {
			t.Errorf("%s was container %s and is %s", name, id, after[name])
		}
	}
}

// chaos is a lab of three nodes with a hard time.
type chaos struct {
	bin, home, lab string
	client         kubernetes.Interface

	mu     sync.Mutex
	random *rand.Rand

	kept []string // pods which churn created and did not delete
	err  error
}

var chaosNodes = []string{"node-1", "node-2", "node-3"} //nolint:gochecknoglobals // a constant, if Go had such

func newChaos(t *testing.T, lab string, seed uint64, flags ...string) *chaos {
	t.Helper()
	c := &chaos{bin: podarium(t), home: t.TempDir(), lab: lab, random: rand.New(rand.NewPCG(seed, 0))}
	run(t, c.home, c.bin, "down", "--name", lab)
	t.Cleanup(func() { run(t, c.home, c.bin, "down", "--name", lab) })
	run(t, c.home, c.bin, append([]string{"up", "--name", lab}, flags...)...)
	var err error
	if c.client, err = kube.Client("/var/lib/podarium/"+lab+"/admin.conf", "chaos"); err != nil {
		t.Fatal(err)
	}
	return c
}

// on runs a command on a node.
func (c *chaos) on(t *testing.T, node string, command ...string) string {
	t.Helper()
	return run(t, c.home, c.bin, append([]string{"node", "--name", c.lab, "exec", node, "--"}, command...)...)
}

// pause waits up to most: when something is killed is the very thing that varies.
func (c *chaos) pause(most time.Duration) {
	c.mu.Lock()
	d := time.Duration(c.random.Int64N(int64(most)))
	c.mu.Unlock()
	time.Sleep(d)
}

func (c *chaos) chance(percent int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.IntN(100) < percent
}

func (c *chaos) pods() typedv1.PodInterface { return c.client.CoreV1().Pods(metav1.NamespaceDefault) }

// chaosPod is the i-th of many, on the node whose turn it is.
func chaosPod(name string, i int) *corev1.Pod {
	zero := int64(0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"chaos": "yes"}},
		Spec: corev1.PodSpec{
			NodeName: chaosNodes[i%len(chaosNodes)], TerminationGracePeriodSeconds: &zero,
			Volumes:    []corev1.Volume{{Name: "ram", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}}},
			Containers: []corev1.Container{{Name: "c", Image: "busybox:1", Command: []string{"sleep", "12345"}, VolumeMounts: []corev1.VolumeMount{{Name: "ram", MountPath: "/ram"}}}},
		},
	}
}

func (c *chaos) create(t *testing.T, prefix string, n int) []string {
	t.Helper()
	var names []string
	for i := range n {
		name := fmt.Sprintf("%s-%d", prefix, i)
		if _, err := c.pods().Create(t.Context(), chaosPod(name, i), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// churn creates pods and deletes half of them, each after a moment of its own.
func (c *chaos) churn(pods int) {
	ctx, zero := context.Background(), int64(0)
	var deletions sync.WaitGroup
	var failed sync.Once
	fail := func(err error) { failed.Do(func() { c.err = err }) }
	for i := range pods {
		name := fmt.Sprintf("churn-%d", i)
		if _, err := c.pods().Create(ctx, chaosPod(name, i), metav1.CreateOptions{}); err != nil {
			fail(err)
			break
		}
		if c.chance(50) {
			c.kept = append(c.kept, name)
		} else {
			deletions.Go(func() {
				c.pause(2 * time.Second)
				options := metav1.DeleteOptions{}
				if c.chance(20) { // by force: the kubelet learns of it afterwards
					options.GracePeriodSeconds = &zero
				}
				if err := c.pods().Delete(ctx, name, options); err != nil {
					fail(err)
				}
			})
		}
		c.pause(150 * time.Millisecond)
	}
	deletions.Wait()
}

// killKubelets kills a node's kubelet n times, each time another one.
func (c *chaos) killKubelets(t *testing.T, node string, n int) {
	t.Helper()
	for range n {
		c.pause(300 * time.Millisecond)
		cmd := exec.Command(c.bin, "node", "--name", c.lab, "exec", node, "--", "sh", "-c", `old=$(pgrep -x -f "kubelet .*") && kill -9 $old
			until new=$(pgrep -x -f "kubelet .*") && [ "$new" != "$old" ]; do sleep 0.01; done`)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("kill kubelet of %s: %v: %s", node, err, out)
			return
		}
	}
}

func (c *chaos) awaitReady(t *testing.T, names []string) {
	t.Helper()
	waiting := map[string]bool{}
	for _, name := range names {
		waiting[name] = true
	}
	c.follow(t, func(pods map[string]*corev1.Pod) string {
		for name := range waiting {
			if pod := pods[name]; pod != nil && isReady(pod) {
				delete(waiting, name)
			}
		}
		if len(waiting) == 0 {
			return ""
		}
		return fmt.Sprintf("not Ready: %v", slices.Sorted(maps.Keys(waiting)))
	})
}

// awaitOnly waits until the API server has no other of our pods.
func (c *chaos) awaitOnly(t *testing.T, names []string) {
	t.Helper()
	c.follow(t, func(pods map[string]*corev1.Pod) string {
		for name := range pods {
			if !slices.Contains(names, name) {
				return name + " is still there"
			}
		}
		return ""
	})
}

// follow watches our pods until problem has none, for three minutes at most.
func (c *chaos) follow(t *testing.T, problem func(map[string]*corev1.Pod) string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	pods, err := c.list(ctx)
	if err != nil {
		t.Fatal(err)
	}
	watcher, err := c.pods().Watch(ctx, metav1.ListOptions{LabelSelector: "chaos", ResourceVersion: pods.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	known := map[string]*corev1.Pod{}
	for i := range pods.Items {
		known[pods.Items[i].Name] = &pods.Items[i]
	}
	for problem(known) != "" {
		event, ok := <-watcher.ResultChan()
		if !ok {
			for _, node := range chaosNodes {
				t.Log(c.on(t, node, "tail", "-n", "40", "/var/log/kubelet.log"))
			}
			t.Fatalf("after three minutes: %s", problem(known))
		}
		if pod, ok := event.Object.(*corev1.Pod); ok {
			known[pod.Name] = pod
			if event.Type == "DELETED" {
				delete(known, pod.Name)
			}
		}
	}
}

func (c *chaos) list(ctx context.Context) (*corev1.PodList, error) {
	return c.pods().List(ctx, metav1.ListOptions{LabelSelector: "chaos"})
}

// containers are the pods' container IDs. None may have been started twice.
func (c *chaos) containers(t *testing.T, names []string) map[string]string {
	t.Helper()
	pods, err := c.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, pod := range pods.Items {
		if !slices.Contains(names, pod.Name) {
			continue
		}
		status := pod.Status.ContainerStatuses[0]
		if status.RestartCount != 0 {
			t.Errorf("%s was restarted %d times: %+v", pod.Name, status.RestartCount, status.LastTerminationState.Terminated)
		}
		ids[pod.Name] = strings.TrimPrefix(status.ContainerID, "runc://")
	}
	return ids
}

// checkNode compares what is on the node with what the API server has there: each
// line of the inventory is a kind of thing and the pod, container or address it
// belongs to.
func (c *chaos) checkNode(t *testing.T, node string) {
	t.Helper()
	pods, err := c.client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	add := func(lines ...string) { want = append(want, lines...) }
	for _, pod := range pods.Items {
		uid, address := string(pod.UID), pod.Status.PodIP
		add("dir "+uid, "cgroup "+uid, "log "+uid, "netns "+uid, "shm "+uid, "address "+address, "veth "+address)
		for _, status := range pod.Status.ContainerStatuses {
			id := strings.TrimPrefix(status.ContainerID, "runc://")
			add("container "+id, "runc "+id, "rootfs "+id, "shim "+id, "group "+id, "process "+id, "mark "+id)
		}
		if pod.Labels["chaos"] != "" {
			add("ram " + uid)
		}
	}
	slices.Sort(want)
	script, err := os.ReadFile("testdata/inventory.sh")
	if err != nil {
		t.Fatal(err)
	}
	var diff string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		have := strings.Fields(strings.ReplaceAll(c.on(t, node, "sh", "-c", string(script)), " ", "\x00"))
		for i := range have {
			have[i] = strings.ReplaceAll(have[i], "\x00", " ")
		}
		slices.Sort(have)
		if diff = difference(want, have); diff == "" {
			return
		}
	}
	t.Errorf("%s after a minute (- missing, + left over):\n%s", node, diff)
}

// difference lists what only one of two sorted lists has.
func difference(want, have []string) string {
	var b strings.Builder
	count := map[string]int{}
	for _, line := range want {
		count[line]--
	}
	for _, line := range have {
		count[line]++
	}
	for _, line := range slices.Sorted(maps.Keys(count)) {
		switch n := count[line]; {
		case n < 0:
			fmt.Fprintf(&b, "- %s\n", line)
		case n > 0:
			fmt.Fprintf(&b, "+ %s\n", line)
		}
	}
	return b.String()
}
