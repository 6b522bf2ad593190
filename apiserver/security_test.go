package apiserver

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/podarium/podarium/apiserver/auth"
	"github.com/podarium/podarium/apiserver/resource"
)

// The credentials of node-1 open what the pods on node-1 use, and nothing else.
func TestNodeKeepsToItsPods(t *testing.T) {
	c := startServer(t)
	ctx, admin := t.Context(), c.admin().CoreV1()
	if _, err := admin.ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for i, node := range []string{"node-1", "node-2"} {
		name := []string{"used-on-1", "used-on-2"}[i]
		if _, err := admin.Secrets("default").Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := admin.Pods("default").Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "pod-of-" + node},
			Spec: corev1.PodSpec{
				NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "podarium"}},
				Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	node1 := kubelet(t, c, "node-1").CoreV1()
	pod, err := node1.Pods("default").Get(ctx, "pod-of-node-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := node1.Secrets("default").Get(ctx, "used-on-1", metav1.GetOptions{}); err != nil {
		t.Errorf("its pod's Secret: %v", err)
	}
	if _, err := node1.Pods("default").UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		t.Errorf("its pod's status: %v", err)
	}
	other, err := admin.Pods("default").Get(ctx, "pod-of-node-2", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() error{
		"read the Secret of a pod elsewhere": func() error {
			_, err := node1.Secrets("default").Get(ctx, "used-on-2", metav1.GetOptions{})
			return err
		},
		"list Secrets":   func() error { _, err := node1.Secrets("default").List(ctx, metav1.ListOptions{}); return err },
		"write a Secret": func() error { return node1.Secrets("default").Delete(ctx, "used-on-1", metav1.DeleteOptions{}) },
		"write a pod's status": func() error {
			_, err := node1.Pods("default").UpdateStatus(ctx, other, metav1.UpdateOptions{})
			return err
		},
		"delete a pod elsewhere": func() error { return node1.Pods("default").Delete(ctx, "pod-of-node-2", metav1.DeleteOptions{}) },
		"ask for the token of an account that no pod of it has": func() error {
			_, err := node1.ServiceAccounts("kube-system").CreateToken(ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		},
		"make a pod of its own": func() error {
			_, err := node1.Pods("default").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}, Spec: pod.Spec}, metav1.CreateOptions{})
			return err
		},
	} {
		if err := try(); !apierrors.IsForbidden(err) {
			t.Errorf("node-1 may %s: %v", what, err)
		}
	}
}

// A bound token lives as long as it says; the next one is another, and good.
func TestTokenExpires(t *testing.T) {
	c := startServer(t)
	ctx := t.Context()
	account, err := c.admin().CoreV1().ServiceAccounts("default").Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "app"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	objects := cachedAccount{account}
	tokens, err := auth.NewTokens(c.cfg.ServiceAccountIssuer, c.cfg.ServiceAccountSigningKeyFile, c.cfg.ServiceAccountKeyFiles, objects)
	if err != nil {
		t.Fatal(err)
	}
	request := auth.Request{Account: account, Lifetime: 10 * time.Minute}
	old, _, err := tokens.Issue(request, time.Now().Add(-11*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokens.Check(old, nil); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a token of eleven minutes ago: %v", err)
	}
	fresh, _, err := tokens.Issue(request, time.Now())
	if err != nil || fresh == old {
		t.Fatalf("the next token: %v", err)
	}
	if _, _, err := tokens.Check(fresh, nil); err != nil {
		t.Errorf("the next token: %v", err)
	}
	seconds := int64(60)
	_, err = c.admin().CoreV1().ServiceAccounts("default").CreateToken(ctx, "app", &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes") {
		t.Errorf("a token for a minute: %v", err)
	}
}

// Who may do what, asked by the user himself, and on behalf of another one.
func TestCanI(t *testing.T) {
	c := startServer(t)
	ctx := t.Context()
	_, err := c.admin().RbacV1().RoleBindings("default").Create(ctx, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "bob"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "view"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "bob"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bob, err := kubernetes.NewForConfig(c.config("bob"))
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		verb, resource, namespace string
		want                      bool
	}{{"list", "pods", "default", true}, {"list", "secrets", "default", false}, {"create", "pods", "default", false}, {"list", "pods", "kube-system", false}} {
		a := &authorizationv1.ResourceAttributes{Verb: q.verb, Resource: q.resource, Namespace: q.namespace}
		self, err := bob.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: a}}, metav1.CreateOptions{})
		if err != nil || self.Status.Allowed != q.want {
			t.Errorf("bob asks: %+v: %v, %v", q, self.Status, err)
		}
		other, err := c.admin().AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: "bob", ResourceAttributes: a}}, metav1.CreateOptions{})
		if err != nil || other.Status.Allowed != q.want {
			t.Errorf("the administrator asks: %+v: %v, %v", q, other.Status, err)
		}
	}
	kubeconfig := c.kubeconfig("kubernetes-admin", "kubeadm:cluster-admins")
	for _, kubectl := range kubectls(t) {
		out, _ := exec.CommandContext(ctx, kubectl, "--kubeconfig", kubeconfig, "--cache-dir", t.TempDir(), "auth", "can-i", "list", "pods", "--as", "bob").Output()
		if string(out) != "yes\n" {
			t.Errorf("%s auth can-i --as bob: %q", kubectl, out)
		}
	}
}

// cachedAccount is a store with one ServiceAccount in it.
type cachedAccount struct{ account *corev1.ServiceAccount }

func (c cachedAccount) Cached(string) (resource.Object, bool)       { return c.account, true }
func (c cachedAccount) CachedList(string, string) []resource.Object { return nil }
