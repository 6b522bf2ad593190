package apiserver

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// clientNamed is an administrator's client that calls itself so.
func clientNamed(t *testing.T, c *cluster, userAgent string) kubernetes.Interface {
	t.Helper()
	cfg := c.config("kubernetes-admin", "kubeadm:cluster-admins")
	cfg.UserAgent = userAgent
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// owners tells who owns what: "kubelet Update status {"f:status":…}".
func owners(obj metav1.Object) string {
	var lines []string
	for _, e := range obj.GetManagedFields() {
		lines = append(lines, strings.Join(strings.Fields(fmt.Sprint(e.Manager, " ", e.Operation, " ", e.Subresource, " ", e.FieldsV1)), " "))
	}
	return strings.Join(lines, "\n")
}

// Every way to write an object notes the writer, and what he changed alone.
func TestManagedFields(t *testing.T) {
	c := startServer(t)
	ctx := t.Context()
	labels := map[string]string{"app": "web"}
	api := clientNamed(t, c, "maker/v1.0 (linux/amd64)").AppsV1().Deployments("default")
	_, err := api.Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "podarium"}}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	labeler := clientNamed(t, c, "labeler")
	if _, err := labeler.AppsV1().Deployments("default").Patch(ctx, "web", types.MergePatchType, []byte(`{"metadata":{"labels":{"tier":"front"}}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := clientNamed(t, c, "scaler").AppsV1().Deployments("default").Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"replicas":3}}`), metav1.PatchOptions{}, "scale"); err != nil {
		t.Fatal(err)
	}
	counter := clientNamed(t, c, "counter").AppsV1().Deployments("default")
	web, err := counter.Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	web.Status.Replicas, web.Spec.Paused = 3, true // the latter is not to be written here
	if _, err := counter.UpdateStatus(ctx, web, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err = api.Patch(ctx, "web", types.ApplyPatchType, []byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","labels":{"team":"a"}}}`), metav1.PatchOptions{FieldManager: "bot"})
	if err != nil {
		t.Fatal(err)
	}
	web, _ = api.Get(ctx, "web", metav1.GetOptions{})
	got := owners(web)
	for _, want := range []string{
		`bot Apply {"f:metadata":{"f:labels":{"f:team":{}}}}`,
		`scaler Update scale {"f:spec":{"f:replicas":{}}}`,
		`counter Update status {"f:status":{"f:replicas":{}}}`,
		`labeler Update {"f:metadata":{"f:labels":{".":{},"f:tier":{}}}}`,
		`maker Update {"f:spec":{"f:progressDeadlineSeconds":{},"f:revisionHistoryLimit":{},"f:selector":{},"f:strategy":`,
	} {
		if !strings.Contains("\n"+got, "\n"+want) {
			t.Errorf("no owner %s in\n%s", want, got)
		}
	}
	// maker has lost the replicas to scaler; who applies them meets scaler.
	_, err = api.Patch(ctx, "web", types.ApplyPatchType, []byte(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":5}}`), metav1.PatchOptions{FieldManager: "bot"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "scaler" with subresource "scale" using apps/v1: .spec.replicas`) {
		t.Errorf("apply of what scaler owns: %v", err)
	}
}

// Who applies a Scale meets those who own the workload's replicas, and owns them
// when it is forced.
func TestApplyScale(t *testing.T) {
	c := startServer(t)
	ctx, api := t.Context(), clientNamed(t, c, "test").AppsV1().Deployments("default")
	web := `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,
		"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"podarium"}]}}}}`
	if _, err := api.Patch(ctx, "web", types.ApplyPatchType, []byte(web), metav1.PatchOptions{FieldManager: "bot"}); err != nil {
		t.Fatal(err)
	}
	scale := func(o metav1.PatchOptions) (*appsv1.Deployment, error) {
		_, err := api.Patch(ctx, "web", types.ApplyPatchType, []byte(`{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web"},"spec":{"replicas":5}}`), o, "scale")
		if err != nil {
			return nil, err
		}
		return api.Get(ctx, "web", metav1.GetOptions{})
	}
	_, err := scale(metav1.PatchOptions{FieldManager: "scaler"})
	if !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "bot": .spec.replicas`) {
		t.Errorf("apply of what bot owns: %v", err)
	}
	if _, err := scale(metav1.PatchOptions{}); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "fieldManager: Required value: is required for apply patch") {
		t.Errorf("apply by nobody: %v", err)
	}
	force := true
	got, err := scale(metav1.PatchOptions{FieldManager: "scaler", Force: &force})
	if err != nil {
		t.Fatal(err)
	}
	all := owners(got)
	if *got.Spec.Replicas != 5 || !strings.Contains(all, `scaler Apply scale {"f:spec":{"f:replicas":{}}}`) || strings.Count(all, "f:replicas") != 1 {
		t.Errorf("%d replicas, owners\n%s", *got.Spec.Replicas, all)
	}
	again, err := scale(metav1.PatchOptions{FieldManager: "scaler"})
	if err != nil || again.ResourceVersion != got.ResourceVersion {
		t.Errorf("the same once more: %v, %s after %s", err, again.ResourceVersion, got.ResourceVersion)
	}
}

// What the server decides by itself is nobody's; what it writes as a client of
// its own is kube-apiserver's.
func TestOwnManager(t *testing.T) {
	c := startServer(t)
	client := clientNamed(t, c, "maker")
	ns, err := client.CoreV1().Namespaces().Get(t.Context(), "default", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := owners(ns), `kube-apiserver Update {"f:metadata":{"f:labels":{".":{},"f:kubernetes.io/metadata.name":{}}}}`; got != want {
		t.Errorf("namespace: %s\nwant %s", got, want)
	}
	pods := client.CoreV1().Pods("default")
	off := false
	client.CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	_, err = pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       corev1.PodSpec{AutomountServiceAccountToken: &off, Containers: []corev1.Container{{Name: "c", Image: "podarium"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	binding := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Target: corev1.ObjectReference{Kind: "Node", Name: "node-1"}}
	if err := pods.Bind(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod, err := pods.Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil || pod.Spec.NodeName != "node-1" {
		t.Fatalf("%v, %v", pod, err)
	}
	if got := owners(pod); strings.Contains(got, "nodeName") || !strings.HasPrefix(got, "maker Update ") || strings.Count(got, "\n") != 0 {
		t.Errorf("bound pod: %s", got)
	}
}

// A name that is no word is cleaned, and bounded.
func TestManagerOf(t *testing.T) {
	for agent, want := range map[string]string{
		"kubectl/v1.33.1 (linux/amd64)": "kubectl", "": "unknown", "/x": "unknown", "a\x01b\u200b": "ab",
		strings.Repeat("ä", 70): strings.Repeat("ä", 64),
	} {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("User-Agent", agent)
		if got := managerOf(r); got != want {
			t.Errorf("%q: manager %q, want %q", agent, got, want)
		}
	}
}
