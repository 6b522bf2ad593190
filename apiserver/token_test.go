package apiserver

import (
	"net/http"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// A pod's token says who it is, and dies with the pod.
func TestPodToken(t *testing.T) {
	c := startServer(t)
	admin := c.admin()
	addPodOnNode(t, admin, 10250)
	pod, err := admin.CoreV1().Pods("default").Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		BoundObjectRef: &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "web", UID: pod.UID},
	}}
	token, err := kubelet(t, c, "node-1").CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default", request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kubelet(t, c, "node-2").CoreV1().ServiceAccounts("default").CreateToken(t.Context(), "default", request, metav1.CreateOptions{}); err == nil {
		t.Error("another node got the token")
	}
	holder, err := kubernetes.NewForConfig(&rest.Config{Host: c.url, BearerToken: token.Status.Token, TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.CertPEM}})
	if err != nil {
		t.Fatal(err)
	}
	me, err := holder.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil || me.Status.UserInfo.Username != "system:serviceaccount:default:default" {
		t.Fatalf("who am I: %v, %v", me, err)
	}
	now := int64(0)
	if err := admin.CoreV1().Pods("default").Delete(t.Context(), "web", metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
		t.Fatal(err)
	}
	if _, err := holder.AuthenticationV1().SelfSubjectReviews().Create(t.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{}); err == nil {
		t.Error("the token outlives its pod")
	}
}

func kubelet(t *testing.T, c *cluster, node string) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(c.config("system:node:"+node, "system:nodes"))
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// A kubelet keeps to its own node.
func TestNodeRestriction(t *testing.T) {
	c := startServer(t)
	mine, other := kubelet(t, c, "node-1"), kubelet(t, c, "node-2")
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	if _, err := other.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{}); err == nil {
		t.Error("node-2 made node-1")
	}
	node, err := mine.CoreV1().Nodes().Create(t.Context(), node, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.NodeInfo.KernelVersion = "6.1.0"
	if _, err := mine.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := other.CoreV1().Nodes().UpdateStatus(t.Context(), node, metav1.UpdateOptions{}); err == nil {
		t.Error("node-2 wrote the status of node-1")
	}
	node, _ = mine.CoreV1().Nodes().Get(t.Context(), "node-1", metav1.GetOptions{})
	node.Spec.Taints = nil
	if _, err := mine.CoreV1().Nodes().Update(t.Context(), node, metav1.UpdateOptions{}); err == nil {
		t.Error("node-1 took off its taint")
	}
	resp, err := c.http("", nil).Get(c.url + "/api/v1/nodes")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without credentials: %d", resp.StatusCode)
	}
}
