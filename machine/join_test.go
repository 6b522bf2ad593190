package machine

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/internal/kube"
	"github.com/podarium/podarium/internal/pki"
	"github.com/podarium/podarium/machine/components"
)

var node2 = components.Node{Name: "node-2", IP: netip.MustParseAddr("192.168.56.12")}

// TestJoin follows a machine from token and hash to its three certificates, with
// a real API server and the real controllers.
func TestJoin(t *testing.T) {
	c := startCluster(t)
	token := c.token(t, Token{TTL: time.Hour})
	caPEM, err := discover(t.Context(), c.address.String(), []string{c.ca.Hash()})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(caPEM, c.ca.CertPEM) {
		t.Errorf("discovered another CA:\n%s", caPEM)
	}
	j := c.joiner(t, node2)
	byToken, err := j.withToken(token)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := j.readCluster(t.Context(), byToken, JoinConfig{Address: c.address, Node: node2})
	if err != nil || plan != c.plan {
		t.Fatalf("cluster is %+v %v, want %+v", plan, err, c.plan)
	}
	if err := j.becomeKubelet(t.Context(), byToken); err != nil {
		t.Fatal(err)
	}
	asKubelet, err := j.asKubelet()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.nodeCertificates(t.Context(), asKubelet); err != nil {
		t.Fatal(err)
	}
	if !j.holds(filepath.Join(j.root, components.KubeletPK, "kubelet.crt"), servingRequest(node2)) {
		t.Error("the kubelet's server certificate is not good")
	}
	checkRights(t, j, asKubelet)
	checkSecrets(t, j.root)
	joinAgain(t, c, j)
}

// checkRights: a kubelet may register its own node; kube-proxy may read Services;
// neither may do the other's.
func checkRights(t *testing.T, j *joiner, asKubelet kubernetes.Interface) {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-2"}}
	if _, err := asKubelet.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Errorf("kubelet registers: %v", err)
	}
	node.Name = "node-3"
	if _, err := asKubelet.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("kubelet registers as another: %v, want Forbidden", err)
	}
	asProxy, err := kube.Client(filepath.Join(j.root, components.Etc, "kube-proxy.conf"), "test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := asProxy.CoreV1().Services("").List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("kube-proxy lists Services: %v", err)
	}
	if _, err := asProxy.CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("kube-proxy lists Secrets: %v, want Forbidden", err)
	}
}

// checkSecrets: what holds a key is for root alone.
func checkSecrets(t *testing.T, root string) {
	t.Helper()
	found := 0
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(data, []byte("PRIVATE KEY")) && !bytes.Contains(data, []byte("client-key-data")) {
			return err
		}
		found++
		info, err := entry.Info()
		if err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil || found != 3 {
		t.Errorf("found %d files with keys, want 3 (%v)", found, err)
	}
}

// joinAgain: with an expired token nothing is asked for twice.
func joinAgain(t *testing.T, c *cluster, j *joiner) {
	t.Helper()
	before, err := c.admin.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(before.Items) != 3 {
		t.Fatalf("%d certificate requests, want 3 (%v)", len(before.Items), err)
	}
	byToken, err := j.withToken("aaaaaa.0123456789abcdef") // one that nobody knows
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.readCluster(t.Context(), byToken, JoinConfig{Address: c.address, Node: node2}); err != nil {
		t.Error(err)
	}
	if err := j.becomeKubelet(t.Context(), byToken); err != nil {
		t.Error(err)
	}
	asKubelet, err := j.asKubelet()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.nodeCertificates(t.Context(), asKubelet); err != nil {
		t.Error(err)
	}
	after, err := c.admin.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(after.Items) != 3 {
		t.Errorf("%d certificate requests after the second join, want 3 (%v)", len(after.Items), err)
	}
}

// TestJoinRefused: what is wrong with the words that somebody typed is told in
// one line with what to do.
func TestJoinRefused(t *testing.T) {
	c := startCluster(t)
	hash := c.ca.Hash()
	other, err := pki.NewCA("kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error, words ...string) {
		t.Helper()
		for _, w := range words {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v, want %q in it", what, err, w)
			}
		}
	}
	_, err = discover(t.Context(), c.address.String(), []string{other.Hash()})
	refused("wrong hash", err, "this is another cluster", hash, "podarium token create --print-join-command")
	_, err = discover(t.Context(), "127.0.0.1:1", []string{hash})
	refused("nobody there", err, "reach the API server at 127.0.0.1:1", "connection refused")
	_, err = discover(t.Context(), strings.Replace(c.address.String(), "127.0.0.1", "127.0.0.2", 1), []string{hash})
	refused("nobody at that address", err, "reach the API server")

	j := c.joiner(t, node2)
	ask := func(token string) error {
		t.Helper()
		client, err := j.withToken(token)
		if err != nil {
			t.Fatal(err)
		}
		_, err = j.readCluster(t.Context(), client, JoinConfig{Address: c.address, Node: node2})
		return err
	}
	refused("unknown token", ask("aaaaaa.0123456789abcdef"), "the token is unknown to this cluster, or has expired", "podarium token create --print-join-command")
	good := c.token(t, Token{TTL: time.Hour})
	refused("right ID, wrong secret", ask(good[:7]+"0123456789abcdef"), "the token is unknown")

	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-2"}}
	if node, err = c.admin.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	if _, err = c.admin.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	refused("taken name", ask(good), "a node node-2 is in the cluster already and Ready", "--node-name")
}

// TestTokens: made, listed, deleted, and gone when their time is over.
func TestTokens(t *testing.T) {
	c := startCluster(t)
	watching, err := c.admin.CoreV1().Secrets("kube-system").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Stop()
	short := c.token(t, Token{TTL: time.Second, Description: "for a moment"})
	long := c.token(t, Token{Value: "abcdef.0123456789abcdef"})
	var table bytes.Buffer
	if err := ListTokens(t.Context(), c.admin, &table, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"TOKEN                     TTL         EXPIRES", short, "for a moment",
		long + "   <forever>   <never>", "authentication,signing   <none>         system:bootstrappers:kubeadm:default-node-token",
	} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("%q is not in\n%s", want, &table)
		}
	}
	for event := range watching.ResultChan() {
		if secret, ok := event.Object.(*corev1.Secret); ok && event.Type == watch.Deleted && secret.Name == tokenNamePrefix+short[:6] {
			break
		}
	}
	if err := DeleteToken(t.Context(), c.admin, "abcdef"); err != nil {
		t.Error(err)
	}
	if err := DeleteToken(t.Context(), c.admin, "abcdef.0123456789abcdef"); !apierrors.IsNotFound(err) {
		t.Errorf("deleted twice: %v", err)
	}
	if err := DeleteToken(t.Context(), c.admin, "../x"); err == nil {
		t.Error("a name that is no token was accepted")
	}
}
