package test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestManyPods: 100 pods at once over three nodes, 200 on one node, and a node
// whose addresses run out.
func TestManyPods(t *testing.T) {
	c := newChaos(t, "test-many", 1, "--max-pods=201")

	t.Run("100 at once", func(t *testing.T) {
		names := c.create(t, "spread", 100)
		c.awaitReady(t, names)
		c.distinctAddresses(t, 100)
		c.deleteAll(t)
	})

	t.Run("200 on a node", func(t *testing.T) {
		var names []string
		for i := range 200 {
			pod := chaosPod(fmt.Sprintf("dense-%d", i), 2)
			if _, err := c.pods().Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			names = append(names, pod.Name)
		}
		c.awaitReady(t, names)
		c.distinctAddresses(t, 200)
		c.checkNode(t, chaosNodes[2])
		c.deleteAll(t)
		c.checkNode(t, chaosNodes[2])
	})

	t.Run("addresses run out", func(t *testing.T) { c.exhaust(t) })
}

// exhaust gives node-2 a /28: 13 addresses for pods, some of which are taken. All
// others wait, are told why, and start when addresses come free.
func (c *chaos) exhaust(t *testing.T) {
	t.Helper()
	const small = `{"cniVersion": "1.1.0", "name": "podarium", "plugins": [{"type": "podarium", "subnet": "10.244.2.0/28"}]}`
	c.on(t, chaosNodes[1], "sh", "-c", "echo '"+small+"' >/etc/cni/net.d/.new && mv /etc/cni/net.d/.new /etc/cni/net.d/00-small.conflist")
	var names []string
	for i := range 16 {
		pod := chaosPod(fmt.Sprintf("tight-%d", i), 1)
		if _, err := c.pods().Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		names = append(names, pod.Name)
	}
	var waiting []string
	c.follow(t, func(pods map[string]*corev1.Pod) string {
		waiting = nil
		for _, name := range names {
			if pod := pods[name]; pod == nil || !isReady(pod) {
				waiting = append(waiting, name)
			}
		}
		if len(waiting) > 5 || len(waiting) < 3 {
			return fmt.Sprintf("%d wait", len(waiting))
		}
		return ""
	})
	c.awaitReason(t, waiting)
	running := without(names, waiting)
	for _, name := range running[:len(waiting)] {
		if err := c.pods().Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	c.awaitReady(t, waiting)
	c.on(t, chaosNodes[1], "rm", "/etc/cni/net.d/00-small.conflist")
	c.deleteAll(t)
	c.checkNode(t, chaosNodes[1])
}

// awaitReason waits for an event which tells why one of these pods waits: there are no addresses
// left. It may come later than anything that happens to the pods.
func (c *chaos) awaitReason(t *testing.T, waiting []string) {
	t.Helper()
	want := regexp.MustCompile(`^Failed to create pod sandbox: failed to setup network for sandbox "[0-9a-f]{64}": ` +
		`plugin type="podarium" failed \(add\): no free address in 10\.244\.2\.0/28: all 13 are in use`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	watcher, err := c.client.CoreV1().Events(metav1.NamespaceDefault).Watch(ctx, metav1.ListOptions{FieldSelector: "reason=FailedCreatePodSandBox"})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	var told strings.Builder
	for change := range watcher.ResultChan() { // those of before are told first
		event, ok := change.Object.(*corev1.Event)
		if !ok {
			continue
		}
		pod := event.InvolvedObject.Name
		if slices.Contains(waiting, pod) && event.Type == corev1.EventTypeWarning && want.MatchString(event.Message) {
			return
		}
		fmt.Fprintf(&told, "%s %s\n", pod, event.Message)
	}
	t.Fatalf("no event tells why %q wait:\n%s", waiting, told.String())
}

func without(all, some []string) []string {
	var rest []string
	skip := map[string]bool{}
	for _, name := range some {
		skip[name] = true
	}
	for _, name := range all {
		if !skip[name] {
			rest = append(rest, name)
		}
	}
	return rest
}

func (c *chaos) distinctAddresses(t *testing.T, want int) {
	t.Helper()
	pods, err := c.list(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	addresses := map[string]bool{}
	for _, pod := range pods.Items {
		addresses[pod.Status.PodIP] = true
	}
	if len(addresses) != want {
		t.Errorf("%d pods have %d addresses", want, len(addresses))
	}
}

func (c *chaos) deleteAll(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.pods().DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "chaos"}); err != nil {
		t.Fatal(err)
	}
	c.awaitOnly(t, nil)
}
