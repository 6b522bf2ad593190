package api

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

// newManaged is an API server with a controller manager beside it, which counts
// a node as silent after four seconds.
func newManaged(t *testing.T) (*controlPlane, kubernetes.Interface) {
	t.Helper()
	c := newServers(t, 1)
	c.startManager("cp-1", c.urls[0], "--node-monitor-grace-period=4s", "--leader-elect=false")
	return c, c.client(c.urls[0])
}

// heart renews a node's Lease and says that it is ready, as a kubelet does, until
// it is stopped.
type heart struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

func beat(t *testing.T, client kubernetes.Interface, node string) *heart {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	h := &heart{stop: cancel}
	leases := client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	h.done.Go(func() {
		_ = wait.PollUntilContextCancel(ctx, 300*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			now := time.Now().UTC().Format(metav1.RFC3339Micro)
			_, err := leases.Patch(ctx, node, types.MergePatchType, []byte(`{"spec":{"renewTime":"`+now+`"}}`), metav1.PatchOptions{})
			if apierrors.IsNotFound(err) {
				_, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: node}}, metav1.CreateOptions{})
			}
			if err == nil { // nothing is written when it says so already
				_, err = client.CoreV1().Nodes().Patch(ctx, node, types.StrategicMergePatchType, []byte(readyStatus), metav1.PatchOptions{}, "status")
			}
			if err != nil && ctx.Err() == nil {
				t.Errorf("heartbeat of %s: %v", node, err)
			}
			return false, nil
		})
	})
	return h
}

func (h *heart) halt() {
	h.stop()
	h.done.Wait()
}

const readyStatus = `{"status":{"conditions":[{"type":"Ready","status":"True","reason":"KubeletReady","message":"kubelet is posting ready status"}]}}`

// TestSilentNode: a node whose kubelet says nothing any more becomes NotReady;
// its pods leave when each tolerates it no longer; when it speaks again, it is
// as before.
func TestSilentNode(t *testing.T) {
	c, client := newManaged(t)
	for _, name := range []string{"node-1", "node-2"} {
		if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	silent := beat(t, client, "node-1")
	defer beat(t, client, "node-2").halt()
	c.waitTaints(client, "node-1") // not-ready, with which it was created, goes
	c.waitAccount(client, metav1.NamespaceDefault)
	soon, never := int64(1), (*int64)(nil)
	podOn(t, client, "node-1", "impatient", corev1.TaintNodeUnreachable, &soon)
	podOn(t, client, "node-1", "patient", corev1.TaintNodeUnreachable, never)
	podOn(t, client, "node-1", "usual", "", never) // tolerates it for 300 s, as admission adds
	podOn(t, client, "node-2", "elsewhere", corev1.TaintNodeUnreachable, &soon)

	silent.halt()
	c.waitTaints(client, "node-1", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute")
	node, err := client.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if ready := node.Status.Conditions[i]; ready.Status != corev1.ConditionUnknown || ready.Reason != "NodeStatusUnknown" || ready.Message != "Kubelet stopped posting node status." {
		t.Errorf("condition of the silent node: %+v", ready)
	}
	c.eventually(20*time.Second, "impatient is evicted", func(ctx context.Context) bool {
		pod, err := client.CoreV1().Pods("default").Get(ctx, "impatient", metav1.GetOptions{})
		return err == nil && pod.DeletionTimestamp != nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.DisruptionTarget && c.Reason == "DeletionByTaintManager"
		})
	})
	for _, name := range []string{"patient", "usual", "elsewhere"} {
		if pod, err := client.CoreV1().Pods("default").Get(t.Context(), name, metav1.GetOptions{}); err != nil || pod.DeletionTimestamp != nil {
			t.Errorf("pod %s: %v, deleted at %v", name, err, pod.DeletionTimestamp)
		}
	}
	defer beat(t, client, "node-1").halt()
	c.waitTaints(client, "node-1")
}

// waitTaints waits until a node has these taints and no others.
func (c *controlPlane) waitTaints(client kubernetes.Interface, name string, want ...string) {
	c.t.Helper()
	var got []string
	defer func() {
		if c.t.Failed() {
			c.t.Logf("taints of %s: %q", name, got)
		}
	}()
	c.eventually(20*time.Second, "taints of "+name, func(ctx context.Context) bool {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false
		}
		got = nil
		for _, taint := range node.Spec.Taints {
			got = append(got, taint.Key+":"+string(taint.Effect))
		}
		return slices.Equal(got, want)
	})
}

// podOn creates a pod that runs on a node already. An empty taint is none that
// it tolerates of its own.
func podOn(t *testing.T, client kubernetes.Interface, node, name, taint string, seconds *int64) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "podarium"}}}}
	if taint != "" {
		pod.Spec.Tolerations = []corev1.Toleration{{Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: seconds}}
	}
	if _, err := client.CoreV1().Pods("default").Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *controlPlane) waitAccount(client kubernetes.Interface, namespace string) {
	c.t.Helper()
	c.eventually(20*time.Second, "ServiceAccount and CA of "+namespace, func(ctx context.Context) bool {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		if err != nil {
			return false
		}
		ca, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{})
		return err == nil && ca.Data["ca.crt"] == string(c.ca.CertPEM)
	})
}

// TestNamespaceIdentity: every namespace has the ServiceAccount default and the
// cluster's CA, whatever somebody does to them, until it goes.
func TestNamespaceIdentity(t *testing.T) {
	c, client := newManaged(t)
	ctx := t.Context()
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "team"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.waitAccount(client, "team")
	if err := client.CoreV1().ServiceAccounts("team").Delete(ctx, "default", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	forged := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "somebody else's"}}
	if _, err := client.CoreV1().ConfigMaps("team").Update(ctx, forged, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.waitAccount(client, "team")
	if err := client.CoreV1().Namespaces().Delete(ctx, "team", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.eventually(20*time.Second, "namespace team is gone", func(ctx context.Context) bool {
		_, err := client.CoreV1().Namespaces().Get(ctx, "team", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
	for _, list := range []func() (int, error){
		func() (int, error) {
			l, err := client.CoreV1().ServiceAccounts("team").List(ctx, metav1.ListOptions{})
			return len(l.Items), err
		},
		func() (int, error) {
			l, err := client.CoreV1().ConfigMaps("team").List(ctx, metav1.ListOptions{})
			return len(l.Items), err
		},
	} {
		if n, err := list(); err != nil || n != 0 {
			t.Errorf("%d objects are left in a namespace that is gone: %v", n, err)
		}
	}
}
