package apiserver

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func TestProxyNames(t *testing.T) {
	for name, want := range map[string][3]string{
		"web": {"http", "web", ""}, "web:80": {"http", "web", "80"}, "https:web:443": {"https", "web", "443"},
		"https:web:": {"https", "web", ""}, ":web:80": {"http", "web", "80"},
	} {
		scheme, base, port, ok := splitProxyName(name)
		if got := [3]string{scheme, base, port}; !ok || got != want {
			t.Errorf("%q: %v %v, want %v", name, got, ok, want)
		}
	}
	for _, name := range []string{"", ":80", "ftp:web:21", "a:b:c:d"} {
		if _, _, _, ok := splitProxyName(name); ok {
			t.Errorf("%q is taken for a name", name)
		}
	}
	for _, host := range []string{"127.0.0.1:10259", "169.254.169.254:80", "0.0.0.0:1", "[::1]:80", "localhost:80", "224.0.0.1:80"} {
		if proxyable(host) == nil {
			t.Errorf("%s is reached through the proxy", host)
		}
	}
	if err := proxyable("10.244.1.5:80"); err != nil {
		t.Error(err)
	}
}

func TestProxySubresource(t *testing.T) {
	c := startServer(t, func(cfg *Config) { cfg.KubeletCA = cfg.ClientCAFile })
	_, port, _ := net.SplitHostPort(startKubelet(t, c.ca).String())
	n, _ := strconv.Atoi(port)
	client := c.admin()
	addPodOnNode(t, client, n)
	admin := c.http("kubernetes-admin", []string{"system:masters"})
	get := func(path string) string {
		resp, err := admin.Get(c.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	const prefix = "/api/v1/nodes/node-1/proxy"
	if got, want := get(prefix+"/page"), `<a href="`+prefix+`/style">a</a><a href="http://elsewhere/in">b</a>`; !strings.Contains(got, want) {
		t.Errorf("a page with links: %s, want %s", got, want)
	}
	admin.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if resp, err := admin.Get(c.url + prefix + "/moved?to=/login"); err != nil || resp.Header.Get("Location") != prefix+"/login" {
		t.Errorf("a redirection: %v, %v", resp, err)
	}
	if resp, err := admin.Get(c.url + prefix + "/moved?to=http://elsewhere/in"); err != nil || resp.Header.Get("Location") != "http://elsewhere/in" {
		t.Errorf("a redirection to elsewhere: %v, %v", resp, err)
	}
	if got := get("/api/v1/nodes/node-1/proxy/stats/a%2Fb?x=1"); got != "GET /stats/a/b?x=1" {
		t.Errorf("node: %q", got)
	}
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := client.CoreV1().Services("default").Create(t.Context(), svc, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"services/web/proxy/":    `no endpoints available for service "web"`,
		"services/web:81/proxy/": `no service port 81 found for service "web"`,
		"services/no/proxy/":     `services "no" not found`,
		"pods/web/proxy/":        "pod web has no address yet",
		"pods/a:b:c/proxy/":      `invalid pod request "a:b:c"`,
	} {
		quoted, _ := json.Marshal(want)
		if got := get("/api/v1/namespaces/default/" + path); !strings.Contains(got, string(quoted)) {
			t.Errorf("%s: %v, want %s", path, got, want)
		}
	}
}

func TestEphemeralContainers(t *testing.T) {
	c := startServer(t)
	client := c.admin()
	addPodOnNode(t, client, 1)
	api := client.CoreV1().Pods("default")
	add := func(patch string) (*corev1.Pod, error) {
		return api.Patch(t.Context(), "web", types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}, "ephemeralcontainers")
	}
	pod, err := add(`{"metadata":{"labels":{"a":"b"}},"spec":{"nodeName":"x","ephemeralContainers":[{"name":"dbg","image":"busybox:1","targetContainerName":"c"}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	if e := pod.Spec.EphemeralContainers; len(e) != 1 || e[0].ImagePullPolicy != corev1.PullIfNotPresent || pod.Spec.NodeName != "node-1" || pod.Labels["a"] != "" || pod.Generation != 2 {
		t.Errorf("added %+v on %s, labels %v, generation %d", e, pod.Spec.NodeName, pod.Labels, pod.Generation)
	}
	for patch, want := range map[string]string{
		`{"spec":{"ephemeralContainers":[{"name":"c","image":"i"}]}}`:                                "Duplicate value",
		`{"spec":{"ephemeralContainers":[{"name":"d","image":"i","ports":[{"containerPort":80}]}]}}`: "cannot be set for an Ephemeral Container",
		`{"spec":{"ephemeralContainers":[{"name":"d","image":"i","targetContainerName":"no"}]}}`:     "targetContainerName: Not found",
		`{"spec":{"ephemeralContainers":[{"name":"dbg","image":"other"}]}}`:                          "may not be changed",
		`{"spec":{"ephemeralContainers":[{"$patch":"delete","name":"dbg"}]}}`:                        "may not be removed",
	} {
		if _, err := add(patch); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", patch, err, want)
		}
	}
}
