package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// exchange is a request and what Kubernetes 1.36 answered to it.
type exchange struct {
	Name    string            `json:"name"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	User    string            `json:"user"`
	Headers map[string]string `json:"headers"`
	Body    json.RawMessage   `json:"body"`
	Code    int               `json:"code"`
	// Warnings are looked at where they are recorded.
	Warnings []string `json:"warnings"`
	Answer   *struct {
		Message string         `json:"message"`
		Reason  string         `json:"reason"`
		Details map[string]any `json:"details"`
	} `json:"answer"`
	Note string `json:"note"`
}

// TestAnswers asks what was asked of the real kube-apiserver, in the same
// order, and wants the same answers, word for word.
func TestAnswers(t *testing.T) {
	data, err := os.ReadFile("testdata/answers.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []exchange
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	c := startServer(t)
	prepareAnswers(t, c)
	clients := map[string]*http.Client{
		"kubernetes-admin": c.http("kubernetes-admin", []string{"system:masters"}),
		"bob":              c.http("bob", []string{"dev"}),
		"none":             c.http("", nil),
	}
	for _, e := range list {
		if reason, ok := differences[e.Name]; ok && reason != "" {
			continue
		}
		t.Run(e.Name, func(t *testing.T) { compareAnswer(t, c, clients[e.User], e) })
	}
}

// prepareAnswers makes what was there when the answers were taken.
func prepareAnswers(t *testing.T, c *cluster) {
	t.Helper()
	admin := c.admin()
	ports := []corev1.ServicePort{{Port: 80, NodePort: 30100}}
	_, err := admin.CoreV1().Services("default").Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "taken"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ClusterIP: "10.96.100.100", Ports: ports, Selector: map[string]string{"app": "a"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func compareAnswer(t *testing.T, c *cluster, client *http.Client, e exchange) {
	t.Helper()
	prepareExchange(t, c, e.Name)
	req, err := http.NewRequestWithContext(t.Context(), e.Method, c.url+e.Path, bytes.NewReader(liveBody(t, c, e)))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range e.Headers {
		req.Header.Set(k, v)
	}
	started := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if took := time.Since(started); took > 4*time.Second {
		t.Errorf("answered after %v", took)
	}
	if resp.StatusCode != e.Code {
		t.Fatalf("code %d, want %d\n%s", resp.StatusCode, e.Code, short(body))
	}
	if got := resp.Header.Values("Warning"); e.Warnings != nil && !slices.Equal(got, e.Warnings) {
		t.Errorf("warnings %q, want %q", got, e.Warnings)
	}
	if e.Answer == nil {
		return
	}
	var got struct {
		Message string         `json:"message"`
		Reason  string         `json:"reason"`
		Details map[string]any `json:"details"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("answer is no Status: %s", short(body))
	}
	if !sameText(got.Message, e.Answer.Message) {
		t.Errorf("message\n  %s\nwant\n  %s", got.Message, e.Answer.Message)
	}
	if got.Reason != e.Answer.Reason {
		t.Errorf("reason %q, want %q", got.Reason, e.Answer.Reason)
	}
	if a, b := mustJSON(got.Details), mustJSON(e.Answer.Details); !sameText(a, b) {
		t.Errorf("details\n  %s\nwant\n  %s", a, b)
	}
}

func mustJSON(v any) string {
	b, _ := json.Marshal(v)
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(b))
}

// sameText compares texts in which <uid>, <rv>, <time> stand for what differs
// with every run.
func sameText(got, want string) bool {
	pattern := regexp.QuoteMeta(want)
	for _, mask := range []string{"<uid>", "<rv>", "<time>", "<random IP>"} {
		pattern = strings.ReplaceAll(pattern, regexp.QuoteMeta(mask), `[-:.0-9A-Za-z]+`)
	}
	return regexp.MustCompile("^" + pattern + "$").MatchString(got)
}

func short(b []byte) string {
	if len(b) > 1500 {
		b = b[:1500]
	}
	return string(b)
}

// liveBody fills the masks of a request's body: an object that was read before
// is sent with its uid and resourceVersion.
func liveBody(t *testing.T, c *cluster, e exchange) []byte {
	t.Helper()
	if big, ok := bigBodies[e.Name]; ok {
		return []byte(big())
	}
	var text string
	if len(e.Body) == 0 {
		return nil
	}
	if json.Unmarshal(e.Body, &text) == nil {
		return []byte(text)
	}
	text = string(e.Body)
	if !strings.Contains(text, "<uid>") && !strings.Contains(text, "<rv>") && !strings.Contains(text, "<time>") {
		return e.Body
	}
	uid, rv := "00000000-0000-0000-0000-000000000000", "1"
	if e.Name != "conflict-old-resourceversion" && e.Name != "patch-merge-old-resourceversion" && !strings.Contains(e.Name, "precondition") && e.Name != "uid-mismatch-put" {
		uid, rv = liveMeta(t, c, strings.Split(e.Path, "?")[0])
	} else if strings.Contains(e.Name, "conflict") {
		uid, _ = liveMeta(t, c, strings.Split(e.Path, "?")[0])
	}
	text = strings.ReplaceAll(text, "<uid>", uid)
	text = strings.ReplaceAll(text, "<rv>", rv)
	return []byte(regexp.MustCompile(`"creationTimestamp": "<time>",?`).ReplaceAllString(text, ""))
}

func liveMeta(t *testing.T, c *cluster, path string) (uid, rv string) {
	t.Helper()
	resp, err := c.http("kubernetes-admin", []string{"system:masters"}).Get(c.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var obj metav1.PartialObjectMetadata
	if err := json.NewDecoder(resp.Body).Decode(&obj); err != nil {
		t.Fatal(err)
	}
	return string(obj.UID), obj.ResourceVersion
}

// bigBodies are the bodies that are only told by their size.
var bigBodies = map[string]func() string{
	"too-large-body":         func() string { return configMap("big", "data", 3145728) },
	"configmap-too-long":     func() string { return configMap("big", "data", 1048577) },
	"etcd-request-too-large": func() string { return configMap("big", "annotations", 307200) },
	"endpointslice-too-many-endpoints": func() string {
		var endpoints []string
		for i := range 1001 {
			endpoints = append(endpoints, fmt.Sprintf(`{"addresses":["10.1.%d.%d"]}`, i/250, i%250+1))
		}
		return `{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{"name":"e1"},"addressType":"IPv4","endpoints":[` + strings.Join(endpoints, ",") + `]}`
	},
}

func configMap(name, where string, size int) string {
	value := strings.Repeat("x", size)
	if where == "annotations" {
		return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q,"annotations":{"a":%q}}}`, name, value)
	}
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"a":%q}}`, name, value)
}

// prepareExchange does what happened between two requests.
func prepareExchange(t *testing.T, c *cluster, name string) {
	t.Helper()
	switch name {
	case "pod-no-containers": // the pods' turn: the account is there by now
		c.admin().CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{})
	case "deployment-selector-immutable":
		labels := map[string]string{"app": "a"}
		c.admin().AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "d1"},
			Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.example/app:1"}}},
			}},
		}, metav1.CreateOptions{})
	case "delete-namespace":
		c.admin().CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dying"}}, metav1.CreateOptions{})
	}
}

// differences are the answers that differ, each with its reason.
var differences = map[string]string{
	"service-missing-name":                          "the message tells of an address that was not needed; ours says that the name is missing",
	"apiversion-mismatch":                           "names a line of upstream's sources",
	"delete-bad-options-kind":                       "names a line of upstream's sources",
	"patch-json-not-array":                          "names a type of upstream's sources",
	"pod-spec-immutable":                            "shows the difference as upstream's internal type prints it",
	"forbidden-impersonate":                         "constrained impersonation, a feature of 1.36, is not offered; the refusal names the user instead",
	"anonymous-forbidden":                           "there is no anonymous user: 401",
	"anonymous-api":                                 "there is no anonymous user: 401",
	"list-exact-too-old":                            "needs a compacted store; TestCompacted looks at it",
	"list-continue-expired":                         "needs a compacted store; TestCompacted looks at it",
	"watch-too-old":                                 "needs a compacted store",
	"watch-too-old-namespace":                       "needs a compacted store",
	"watch-initial-events-without-progress-support": "shows a limit of an old etcd",
}

// TestReviewHasNoTable: a review is no row of a table. Who takes nothing else is told so with 406; who also takes
// the object, as kubectl says with every request, gets it.
func TestReviewHasNoTable(t *testing.T) {
	c := startServer(t)
	const table = "application/json;as=Table;v=v1;g=meta.k8s.io"
	for accept, want := range map[string]int{table: http.StatusNotAcceptable, table + ",application/json": http.StatusCreated} {
		body := strings.NewReader(`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"nonResourceAttributes":{"path":"/","verb":"get"}}}`)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		req.Header.Set("Content-Type", "application/json")
		resp, err := c.http("kubernetes-admin", []string{"system:masters"}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("Accept: %s is answered with %d, want %d", accept, resp.StatusCode, want)
		}
	}
}
