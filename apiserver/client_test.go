package apiserver

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// client-go, unmodified, in both encodings.
func TestClientGo(t *testing.T) {
	c := startServer(t)
	for _, contentType := range []string{mediaJSON, mediaProtobuf} {
		t.Run(contentType, func(t *testing.T) {
			cfg := c.config("kubernetes-admin", "kubeadm:cluster-admins")
			cfg.ContentType = contentType
			client, err := kubernetes.NewForConfig(cfg)
			if err != nil {
				t.Fatal(err)
			}
			useConfigMaps(t, client)
		})
	}
}

func useConfigMaps(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx := t.Context()
	api := client.CoreV1().ConfigMaps("default")
	seen := make(chan string, 100)
	factory := informers.NewSharedInformerFactory(client, 0)
	informer := factory.Core().V1().ConfigMaps().Informer()
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { seen <- "added " + o.(*corev1.ConfigMap).Name },
		UpdateFunc: func(_, o any) { seen <- "updated " + o.(*corev1.ConfigMap).Data["k"] },
		DeleteFunc: func(o any) { seen <- "deleted " + o.(*corev1.ConfigMap).Name },
	})
	factory.Start(ctx.Done())
	synced, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if !cache.WaitForCacheSync(synced.Done(), informer.HasSynced) {
		t.Fatal("informer did not sync")
	}
	cm, err := api.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "cm-"}, Data: map[string]string{"k": "1"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.Data["k"] = "2"
	updated, err := api.Update(ctx, cm, metav1.UpdateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Update(ctx, cm, metav1.UpdateOptions{}); err == nil || !strings.Contains(err.Error(), "object has been modified") {
		t.Fatalf("update of an old state: %v", err)
	}
	if _, err := api.Patch(ctx, updated.Name, types.StrategicMergePatchType, []byte(`{"data":{"k":"3"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := api.Delete(ctx, cm.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"added " + cm.Name, "updated 2", "updated 3", "deleted " + cm.Name} {
		select {
		case got := <-seen:
			if got != want {
				t.Fatalf("informer saw %q, want %q", got, want)
			}
		case <-time.After(3 * time.Second):
			t.Fatalf("informer did not see %q", want)
		}
	}
}

// kubectls finds all versions installed beside the machine's kubectl. A machine
// without one has the bundled kubectl, which the whole-lab tests drive.
func kubectls(t *testing.T) []string {
	t.Helper()
	path, err := exec.LookPath("kubectl")
	if err != nil {
		t.Log("no kubectl on this machine")
		return nil
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "kubectl.1.*"))
	return append(found, path)
}

const podManifest = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","labels":{"app":"web"}},
"spec":{"automountServiceAccountToken":false,"serviceAccountName":"default","containers":[{"name":"c","image":"podarium"}]}}`

func TestKubectl(t *testing.T) {
	c := startServer(t)
	if _, err := c.admin().CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	kubeconfig := c.kubeconfig("kubernetes-admin", "kubeadm:cluster-admins")
	for _, kubectl := range kubectls(t) {
		t.Run(filepath.Base(kubectl), func(t *testing.T) {
			run := func(stdin string, args ...string) string {
				t.Helper()
				cmd := exec.CommandContext(t.Context(), kubectl, append([]string{"--kubeconfig", kubeconfig, "--cache-dir", t.TempDir()}, args...)...)
				cmd.Stdin = strings.NewReader(stdin)
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("kubectl %v: %v\n%s", args, err, out)
				}
				return string(out)
			}
			if out := run(podManifest, "apply", "-f", "-"); !strings.Contains(out, "pod/web created") {
				t.Errorf("apply: %s", out)
			}
			if out := run(podManifest, "apply", "-f", "-"); !strings.Contains(out, "pod/web unchanged") {
				t.Errorf("apply again: %s", out)
			}
			if out := run("", "get", "pods", "-o", "wide"); !strings.Contains(out, "web    0/1     Pending   0 ") || !strings.Contains(out, "NOMINATED NODE") {
				t.Errorf("get: %s", out)
			}
			run("", "label", "pod", "web", "tier=front")
			if out := run("", "get", "po", "-l", "tier=front", "-o", "name"); out != "pod/web\n" {
				t.Errorf("get -l: %q", out)
			}
			if out := run("", "describe", "pod", "web"); !strings.Contains(out, "QoS Class:") {
				t.Errorf("describe: %s", out)
			}
			if out := run("", "delete", "pod", "web"); !strings.Contains(out, "deleted") {
				t.Errorf("delete: %s", out)
			}
		})
	}
}
