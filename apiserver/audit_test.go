package apiserver

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

func TestAuditLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	c := startServer(t, func(cfg *Config) { cfg.AuditLog.Path = path })
	client := c.admin()
	ctx := t.Context()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "s"}, StringData: map[string]string{"password": "hunter2"}}
	if _, err := client.CoreV1().Secrets("default").Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := client.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	as := c.config("kubernetes-admin", "kubeadm:cluster-admins")
	as.Impersonate = rest.ImpersonationConfig{UserName: "bob"}
	bob, err := kubernetes.NewForConfig(as)
	if err != nil {
		t.Fatal(err)
	}
	if err := bob.CoreV1().Secrets("default").Delete(ctx, "s", metav1.DeleteOptions{}); err == nil {
		t.Fatal("bob may delete secrets")
	}
	w.Stop()
	c.stop()

	lines := auditLines(t, path)
	created := lines["ResponseComplete create secrets default/"]
	if created == nil || created.ResponseStatus.Code != 201 || created.User.Username != "kubernetes-admin" || created.AuditID == "" ||
		created.Annotations["authorization.k8s.io/decision"] != "allow" || created.SourceIPs[0] != "127.0.0.1" || created.StageTime.Before(&created.Received) {
		t.Errorf("create: %+v", created)
	}
	refused := lines["ResponseComplete delete secrets default/s"]
	if refused == nil || refused.ResponseStatus.Code != 403 || refused.ImpersonatedUser == nil || refused.ImpersonatedUser.Username != "bob" ||
		refused.User.Username != "kubernetes-admin" || refused.Annotations["authorization.k8s.io/decision"] != "forbid" {
		t.Errorf("delete: %+v", refused)
	}
	if lines["ResponseStarted watch pods /"] == nil || lines["ResponseComplete watch pods /"] == nil {
		t.Error("the watch has not two lines")
	}
}

func auditLines(t *testing.T, path string) map[string]*auditEvent {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := map[string]*auditEvent{}
	in := bufio.NewScanner(f)
	for in.Scan() {
		if strings.Contains(in.Text(), "hunter2") {
			t.Error("a secret is in the audit log")
		}
		ev := &auditEvent{}
		if err := json.Unmarshal(in.Bytes(), ev); err != nil {
			t.Fatalf("%s: %v", in.Text(), err)
		}
		if o := ev.ObjectRef; o != nil {
			lines[ev.Stage+" "+ev.Verb+" "+o.Resource+" "+o.Namespace+"/"+o.Name] = ev
		}
	}
	return lines
}

func TestAuditLogRotates(t *testing.T) {
	dir := t.TempDir()
	l, err := openAuditLog(AuditLog{Path: filepath.Join(dir, "audit.log"), MaxSizeMB: 1, MaxBackup: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	for range 400 {
		l.write(&auditEvent{RequestURI: strings.Repeat("x", 10000)})
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	if len(files) != 2 {
		t.Errorf("files %v, want the log and one backup", files)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() > 1<<20 {
			t.Errorf("%s: %v, %v", file, info.Size(), err)
		}
	}
}
