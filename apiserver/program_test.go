package apiserver

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// recorder notes which requests a client sends.
type recorder struct {
	next  http.RoundTripper
	mu    sync.Mutex
	asked []string
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	r.asked = append(r.asked, req.Method+" "+req.URL.String())
	r.mu.Unlock()
	return r.next.RoundTrip(req)
}

func (r *recorder) sent(match func(string) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.asked, match)
}

// recorded is a client's config, and what it will send.
func recorded(c *cluster) (*rest.Config, *recorder) {
	r := &recorder{}
	cfg := c.config("kubernetes-admin", "kubeadm:cluster-admins")
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { r.next = next; return r })
	return cfg, r
}

// Informers begin with a streaming list: one watch, and no list before it.
func TestInformersStream(t *testing.T) {
	c := startServer(t)
	cfg, sent := recorded(c)
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	dyn, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	typed := informers.NewSharedInformerFactory(client, 0)
	untyped := dynamicinformer.NewDynamicSharedInformerFactory(dyn, 0)
	namespaces := typed.Core().V1().Namespaces().Informer()
	roles := untyped.ForResource(v1Resource("rbac.authorization.k8s.io", "clusterroles")).Informer()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	typed.Start(ctx.Done())
	untyped.Start(ctx.Done())
	if !cache.WaitForCacheSync(ctx.Done(), namespaces.HasSynced, roles.HasSynced) {
		t.Fatal("informers did not sync")
	}
	if n, want := len(namespaces.GetStore().List()), 4; n != want {
		t.Errorf("%d namespaces, want %d", n, want)
	}
	if n := len(roles.GetStore().List()); n < 60 {
		t.Errorf("%d roles", n)
	}
	for _, resource := range []string{"namespaces", "clusterroles"} {
		streams := func(s string) bool {
			return strings.Contains(s, resource) && strings.Contains(s, "sendInitialEvents=true") && strings.Contains(s, "watch=true")
		}
		lists := func(s string) bool { return strings.Contains(s, resource) && !strings.Contains(s, "watch=true") }
		if !sent.sent(streams) || sent.sent(lists) {
			t.Errorf("%s: want one streaming watch and no list, sent %v", resource, sent.asked)
		}
	}
}

// The dynamic client knows no types and does the same.
func TestDynamicClient(t *testing.T) {
	c := startServer(t)
	dyn, err := dynamic.NewForConfig(c.config("kubernetes-admin", "kubeadm:cluster-admins"))
	if err != nil {
		t.Fatal(err)
	}
	api, ctx := dyn.Resource(v1Resource("", "services")).Namespace("default"), t.Context()
	svc := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Service", "metadata": map[string]any{"generateName": "web-"},
		"spec": map[string]any{"ports": []any{map[string]any{"port": int64(80)}}},
	}}
	svc, err = api.Create(ctx, svc, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if ip, _, _ := unstructured.NestedString(svc.Object, "spec", "clusterIP"); !strings.HasPrefix(ip, "10.") {
		t.Errorf("clusterIP %q", ip)
	}
	svc, err = api.Patch(ctx, svc.GetName(), types.JSONPatchType, []byte(`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`), metav1.PatchOptions{})
	if err != nil || svc.GetLabels()["a"] != "b" {
		t.Fatalf("%v, %v", svc, err)
	}
	list, err := api.List(ctx, metav1.ListOptions{LabelSelector: "a=b"})
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if err := api.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "a in (b)"}); err != nil {
		t.Fatal(err)
	}
	if _, err := api.Get(ctx, svc.GetName(), metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("after the deletion: %v", err)
	}
}

// Two managers apply parts of one object; what one leaves out goes, what the
// other owns stays, and a quarrel is a conflict until somebody forces it.
func TestServerSideApply(t *testing.T) {
	c := startServer(t)
	api, ctx := c.admin().CoreV1().ConfigMaps("default"), t.Context()
	apply := func(manager string, force bool, data map[string]string) (map[string]string, error) {
		cm, err := api.Apply(ctx, applycorev1.ConfigMap("shared", "default").WithData(data), metav1.ApplyOptions{FieldManager: manager, Force: force})
		if err != nil {
			return nil, err
		}
		return cm.Data, nil
	}
	if _, err := apply("a", false, map[string]string{"x": "1", "y": "1"}); err != nil {
		t.Fatal(err)
	}
	if data, err := apply("b", false, map[string]string{"z": "2"}); err != nil || len(data) != 3 {
		t.Fatalf("%v, %v", data, err)
	}
	if _, err := apply("b", false, map[string]string{"z": "2", "x": "2"}); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "a": .data.x`) {
		t.Errorf("b takes x: %v", err)
	}
	if data, err := apply("b", true, map[string]string{"z": "2", "x": "2"}); err != nil || data["x"] != "2" {
		t.Errorf("b forces x: %v, %v", data, err)
	}
	if data, err := apply("a", false, map[string]string{}); err != nil || len(data) != 2 || data["y"] != "" {
		t.Errorf("a gives up y: %v, %v", data, err)
	}
}

// Of two candidates one leads; when it stops, the other one does.
func TestLeaderElection(t *testing.T) {
	c := startServer(t)
	led := make(chan string, 2)
	stop := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	for _, name := range []string{"one", "two"} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stop[name] = cancel
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta: metav1.ObjectMeta{Name: "x", Namespace: "default"}, Client: c.admin().CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: name},
			},
			LeaseDuration: 5 * time.Second, RenewDeadline: 4 * time.Second, RetryPeriod: 200 * time.Millisecond, ReleaseOnCancel: true,
			Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) { led <- name }, OnStoppedLeading: func() {}},
		})
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() { elector.Run(ctx) })
	}
	first := <-led
	stop[first]()
	select {
	case second := <-led:
		if second == first {
			t.Errorf("%s leads again after it stopped", second)
		}
	case <-time.After(20 * time.Second):
		t.Error("nobody took over")
	}
	for _, cancel := range stop {
		cancel()
	}
}

// Events come in protobuf from kube-proxy, and by the newer group from others;
// they are the same objects.
func TestEventsInBothGroups(t *testing.T) {
	c := startServer(t)
	cfg := c.config("kubernetes-admin", "kubeadm:cluster-admins")
	cfg.ContentType = mediaProtobuf
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Events("default").Create(t.Context(), &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: "e"}, InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "default", Name: "web"}, Reason: "Started", Message: "m", Type: "Normal",
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e, err := client.EventsV1().Events("default").Get(t.Context(), "e", metav1.GetOptions{})
	if err != nil || e.Regarding.Name != "web" || e.Note != "m" {
		t.Errorf("%v, %v", e, err)
	}
}

func v1Resource(group, resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: group, Version: "v1", Resource: resource}
}
