package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// TestFailover kills every etcd member and every API server in turn, while
// clients that know both servers write: they go on, and nothing that was
// confirmed is lost. Then the leading controller manager and scheduler are
// killed: the others take over.
func TestFailover(t *testing.T) {
	c := newControlPlane(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var clients []kubernetes.Interface
	for _, url := range c.urls {
		clients = append(clients, c.client(url))
	}
	copies := followBoth(ctx, t, clients)
	writers, stop := startWriters(ctx, t, clients)
	for _, victim := range slices.Concat(c.etcds, c.servers) {
		t.Run("kill "+victim.name, func(t *testing.T) {
			victim.kill()
			writersGoOn(t, c, writers)
			victim.start()
			for _, url := range c.urls {
				c.waitReady(url)
			}
			writersGoOn(t, c, writers)
		})
	}
	stop()
	checkNothingLost(t, c, writers, clients, copies)
	if !t.Failed() {
		t.Run("kill the leaders", func(t *testing.T) { killLeaders(t, c, clients[0]) })
	}
}

// writer counts up a number in a ConfigMap of its own, and now and then has a
// Service for a moment. When a server fails it, it goes to the other one.
type writer struct {
	t         *testing.T
	clients   []kubernetes.Interface
	using     int
	name      string
	confirmed atomic.Int64
}

func startWriters(ctx context.Context, t *testing.T, clients []kubernetes.Interface) (list []*writer, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for i := range 8 {
		w := &writer{t: t, clients: clients, using: i % len(clients), name: fmt.Sprintf("counter-%d", i)}
		list = append(list, w)
		running.Go(func() { w.run(ctx) })
	}
	return list, func() { cancel(); running.Wait() }
}

// try lets do use one server after the other until one answers. An answer may
// be a refusal; only a server that fails is no answer.
func (w *writer) try(ctx context.Context, do func(ctx context.Context, client kubernetes.Interface) error) error {
	for {
		attempt, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := do(attempt, w.clients[w.using])
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var known apierrors.APIStatus
		if err == nil || errors.As(err, &known) && known.Status().Code < 500 {
			return err
		}
		w.using = (w.using + 1) % len(w.clients)
	}
}

func (w *writer) run(ctx context.Context) {
	var mine *corev1.ConfigMap
	for turn := 0; ctx.Err() == nil; turn++ {
		if turn%10 == 9 {
			w.borrowService(ctx)
		}
		next := w.confirmed.Load() + 1
		var done *corev1.ConfigMap
		err := w.try(ctx, func(ctx context.Context, client kubernetes.Interface) (err error) {
			done, err = w.write(ctx, client, mine, next)
			return err
		})
		if err != nil { // perhaps it was done by a try that got no answer
			done = w.look(ctx, next)
		}
		if done == nil {
			return
		}
		mine = done
		n, _ := strconv.ParseInt(done.Data["n"], 10, 64)
		w.confirmed.Store(n)
	}
}

func (w *writer) write(ctx context.Context, client kubernetes.Interface, mine *corev1.ConfigMap, n int64) (*corev1.ConfigMap, error) {
	api := client.CoreV1().ConfigMaps("default")
	next := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: w.name}, Data: map[string]string{"n": strconv.FormatInt(n, 10)}}
	if mine == nil {
		return api.Create(ctx, next, metav1.CreateOptions{})
	}
	next.ResourceVersion = mine.ResourceVersion
	return api.Update(ctx, next, metav1.UpdateOptions{})
}

// look finds out what is there after a write of next was refused: it was
// carried out by a server that died before it could tell, or somebody lost
// something. nil when the test is over.
func (w *writer) look(ctx context.Context, next int64) *corev1.ConfigMap {
	var have *corev1.ConfigMap
	err := w.try(ctx, func(ctx context.Context, client kubernetes.Interface) (err error) {
		have, err = client.CoreV1().ConfigMaps("default").Get(ctx, w.name, metav1.GetOptions{})
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		w.t.Errorf("%s at %d: %v", w.name, next-1, err)
		return nil
	}
	if n := have.Data["n"]; n != strconv.FormatInt(next, 10) {
		w.t.Errorf("%s is at %s, %d was confirmed", w.name, n, next-1)
		return nil
	}
	return have
}

func (w *writer) borrowService(ctx context.Context) {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: w.name}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	err := w.try(ctx, func(ctx context.Context, client kubernetes.Interface) error {
		_, err := client.CoreV1().Services("default").Create(ctx, svc, metav1.CreateOptions{})
		return err
	})
	if err != nil && !apierrors.IsAlreadyExists(err) && ctx.Err() == nil {
		w.t.Errorf("create Service %s: %v", w.name, err)
	}
	err = w.try(ctx, func(ctx context.Context, client kubernetes.Interface) error {
		return client.CoreV1().Services("default").Delete(ctx, w.name, metav1.DeleteOptions{})
	})
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		w.t.Errorf("delete Service %s: %v", w.name, err)
	}
}

// writersGoOn waits until each writer has five more writes confirmed.
func writersGoOn(t *testing.T, c *controlPlane, writers []*writer) {
	t.Helper()
	started, goal := time.Now(), map[*writer]int64{}
	for _, w := range writers {
		goal[w] = w.confirmed.Load() + 5
	}
	c.eventually(40*time.Second, "all writers go on", func(context.Context) bool {
		return t.Failed() || !slices.ContainsFunc(writers, func(w *writer) bool { return w.confirmed.Load() < goal[w] })
	})
	t.Logf("each writer went on within %v", time.Since(started).Round(time.Millisecond))
}

// followBoth keeps a copy of the ConfigMaps by a watch on each server.
func followBoth(ctx context.Context, t *testing.T, clients []kubernetes.Interface) (copies []cache.Store) {
	t.Helper()
	for _, client := range clients {
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace("default"))
		informer := factory.Core().V1().ConfigMaps().Informer()
		factory.Start(ctx.Done())
		synced, cancel := context.WithTimeout(ctx, 20*time.Second)
		if !cache.WaitForCacheSync(synced.Done(), informer.HasSynced) {
			t.Fatal("informer did not sync")
		}
		cancel()
		copies = append(copies, informer.GetStore())
	}
	return copies
}

// checkNothingLost compares what was confirmed with what both servers have, and
// what those who watch them were told.
func checkNothingLost(t *testing.T, c *controlPlane, writers []*writer, clients []kubernetes.Interface, copies []cache.Store) {
	t.Helper()
	total := int64(0)
	for _, w := range writers {
		total += w.confirmed.Load()
		for i, client := range clients {
			var have *corev1.ConfigMap
			c.eventually(20*time.Second, "read "+w.name, func(ctx context.Context) (ok bool) {
				var err error
				have, err = client.CoreV1().ConfigMaps("default").Get(ctx, w.name, metav1.GetOptions{})
				return err == nil
			})
			// The last write may have been carried out and not confirmed.
			n, _ := strconv.ParseInt(have.Data["n"], 10, 64)
			if n < w.confirmed.Load() || n > w.confirmed.Load()+1 {
				t.Errorf("server %d has %s at %d, %d was confirmed", i+1, w.name, n, w.confirmed.Load())
			}
			c.eventually(20*time.Second, "the watch of server "+strconv.Itoa(i+1)+" tells the last write of "+w.name, func(context.Context) bool {
				obj, ok, _ := copies[i].GetByKey("default/" + w.name)
				return ok && obj.(*corev1.ConfigMap).ResourceVersion == have.ResourceVersion
			})
		}
	}
	t.Logf("%d writes confirmed", total)
	checkAddresses(t, clients[0])
}

// checkAddresses wants an IPAddress for every Service and no other.
func checkAddresses(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	services, err := client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	addresses, err := client.NetworkingV1().IPAddresses().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, s := range services.Items {
		want = append(want, s.Spec.ClusterIP)
	}
	for _, a := range addresses.Items {
		got = append(got, a.Name)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("addresses %v, the Services have %v", got, want)
	}
}

// killLeaders lets a Deployment grow after whoever made and placed its first
// pods is gone.
func killLeaders(t *testing.T, c *controlPlane, client kubernetes.Interface) {
	t.Helper()
	addNode(t, client)
	labels := map[string]string{"app": "web"}
	two := int32(2)
	_, err := client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Replicas: &two, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec: corev1.PodSpec{
				Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				Containers:  []corev1.Container{{Name: "c", Image: "podarium"}},
			},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	placed := func(want int) func(context.Context) bool {
		return func(ctx context.Context) bool {
			pods, err := client.CoreV1().Pods("default").List(ctx, metav1.ListOptions{LabelSelector: "app=web", FieldSelector: "spec.nodeName=node-1"})
			return err == nil && len(pods.Items) == want
		}
	}
	c.eventually(time.Minute, "two pods are placed", placed(2))
	manager, scheduler := holder(t, client, "kube-controller-manager"), holder(t, client, "kube-scheduler")
	c.managers[manager].kill()
	c.schedulers[scheduler].kill()
	if _, err := client.AppsV1().Deployments("default").Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":4}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	c.eventually(90*time.Second, "four pods are placed", placed(4))
	t.Logf("others took over within %v", time.Since(started).Round(time.Millisecond))
	if now := holder(t, client, "kube-controller-manager"); now == manager {
		t.Errorf("%s still holds the lease of the controller manager", now)
	}
	if now := holder(t, client, "kube-scheduler"); now == scheduler {
		t.Errorf("%s still holds the lease of the scheduler", now)
	}
}

func holder(t *testing.T, client kubernetes.Interface, lease string) string {
	t.Helper()
	l, err := client.CoordinationV1().Leases(metav1.NamespaceSystem).Get(t.Context(), lease, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return *l.Spec.HolderIdentity
}

func addNode(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	node, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Capacity = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	node.Status.Allocatable = node.Status.Capacity
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now(), LastTransitionTime: metav1.Now()}}
	if _, err := client.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}
