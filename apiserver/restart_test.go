package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/apiserver/store"
)

// What was written is there after a restart, with its uid and resourceVersion,
// and an address that is held stays held.
func TestRestart(t *testing.T) {
	c := startServer(t)
	before, err := c.admin().CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.stop(); err != nil {
		t.Fatalf("stop: %v", err)
	}
	c.start()
	after, err := c.admin().CoreV1().Services("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if after.UID != before.UID || after.ResourceVersion != before.ResourceVersion {
		t.Errorf("before %s@%s, after %s@%s", before.UID, before.ResourceVersion, after.UID, after.ResourceVersion)
	}
	_, err = c.admin().CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "thief"}, Spec: corev1.ServiceSpec{ClusterIP: before.Spec.ClusterIP, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "provided IP is already allocated") {
		t.Errorf("taking %s: %v", before.Spec.ClusterIP, err)
	}
}

// A damaged data directory is one error that names it.
func TestDamagedData(t *testing.T) {
	c := startServer(t)
	c.stop()
	db := filepath.Join(c.cfg.DataDir, "member", "snap", "db")
	info, err := os.Stat(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(db, []byte(strings.Repeat("x", int(info.Size()))), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err = Run(ctx, c.cfg)
	if err == nil || !strings.Contains(err.Error(), c.cfg.DataDir) || !strings.Contains(err.Error(), "restore") {
		t.Errorf("error: %v", err)
	}
}

// Two servers cannot use one data directory.
func TestDataDirInUse(t *testing.T) {
	c := startServer(t)
	if err := Run(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("error: %v", err)
	}
}

// After a compaction, what is too old is 410 Gone.
func TestCompacted(t *testing.T) {
	c := startServer(t)
	api := c.admin().CoreV1().ConfigMaps("default")
	for i := range 5 {
		if _, err := api.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("cm%d", i)}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := api.List(t.Context(), metav1.ListOptions{Limit: 2})
	if err != nil {
		t.Fatal(err)
	}
	rest, err := api.List(t.Context(), metav1.ListOptions{Limit: 10, Continue: page.Continue})
	if err != nil || len(rest.Items) != 3 || *page.RemainingItemCount != 3 {
		t.Fatalf("second page: %v, %v", rest, err)
	}
	last, err := api.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "last"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	compactEtcd(t, c, last.ResourceVersion)
	if _, err := api.List(t.Context(), metav1.ListOptions{Limit: 10, Continue: page.Continue}); !apierrors.IsResourceExpired(err) {
		t.Errorf("old continue token: %v", err)
	}
	old := metav1.ListOptions{ResourceVersion: page.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchExact}
	if _, err := api.List(t.Context(), old); !apierrors.IsResourceExpired(err) {
		t.Errorf("list at an old version: %v", err)
	}
	c.stop()
	c.start() // the history in memory goes back to here now
	w, err := c.admin().CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: "1"})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	if ev := <-w.ResultChan(); ev.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(ev.Object)) {
		t.Errorf("watch from 1: %v", ev)
	}
}

func compactEtcd(t *testing.T, c *cluster, version string) {
	t.Helper()
	codec := newStorageCodec("")
	st, err := store.Open(t.Context(), store.Config{Endpoints: []string{"unix://" + c.cfg.DataDir + "/etcd.sock"}, Tables: codec.prefixes(), Codec: codec})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Compact(t.Context(), store.ParseRevision(version)); err != nil {
		t.Fatal(err)
	}
}

// What is served is what etcd has: this server keeps the objects that it wrote
// as it wrote them, and must not find others when it reads them.
func TestCopyIsWhatIsStored(t *testing.T) {
	c := startServer(t)
	createDefaults(t, c)
	ctx, client := t.Context(), c.admin()
	if _, err := client.CoreV1().ConfigMaps("default").Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "empty", Labels: map[string]string{}}, Data: map[string]string{}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().ConfigMaps("default").Patch(ctx, "empty", types.ApplyPatchType, []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"b"}}`), metav1.PatchOptions{FieldManager: "bot"}); err != nil {
		t.Fatal(err)
	}
	before := everything(t, c)
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	c.start()
	after := everything(t, c)
	if len(before) < 100 {
		t.Errorf("%d objects are too few to tell anything", len(before))
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(- before, + after the restart)\n%s", diff)
	}
}

// everything is each object in JSON, by its path.
func everything(t *testing.T, c *cluster) map[string]string {
	t.Helper()
	client, all := c.http("kubernetes-admin", []string{"system:masters"}), map[string]string{}
	for _, k := range resource.Kinds {
		path := "/apis/" + k.GroupVersion.String() + "/" + k.Plural
		if k.GroupVersion.Group == "" {
			path = "/api/v1/" + k.Plural
		}
		resp, err := client.Get(c.url + path)
		if err != nil {
			t.Fatal(err)
		}
		var list struct{ Items []json.RawMessage }
		err = json.NewDecoder(resp.Body).Decode(&list)
		resp.Body.Close()
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, item := range list.Items {
			var named metav1.PartialObjectMetadata
			if err := json.Unmarshal(item, &named); err != nil {
				t.Fatal(err)
			}
			all[path+"/"+named.Namespace+"/"+named.Name] = string(item)
		}
	}
	return all
}
