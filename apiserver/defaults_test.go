package apiserver

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// smallest is an object with nothing but what it needs, and what the server
// makes of it.
type smallest struct {
	Name, Path, Warning string
	Body, Answer        map[string]any
}

// createDefaults creates the objects of testdata/defaults.json and hands each
// answer to those who look.
func createDefaults(t *testing.T, c *cluster, look ...func(t *testing.T, d smallest, header http.Header, answer []byte)) {
	t.Helper()
	data, err := os.ReadFile("testdata/defaults.json")
	if err != nil {
		t.Fatal(err)
	}
	var list []smallest
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	if _, err := c.admin().CoreV1().ServiceAccounts("default").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	client := c.http("kubernetes-admin", []string{"system:masters"})
	for _, d := range list {
		t.Run(d.Name, func(t *testing.T) {
			body, _ := json.Marshal(d.Body)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url+d.Path, bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", mediaJSON)
			req.Header.Set("User-Agent", "") // whom managedFields calls unknown
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			answer, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusCreated {
				t.Fatalf("code %d: %s", resp.StatusCode, short(answer))
			}
			for _, f := range look {
				f(t, d, resp.Header, answer)
			}
		})
	}
}

// TestDefaults creates smallest objects and wants them back with the same
// fields filled in, and the same owners of fields, as Kubernetes 1.36 does.
func TestDefaults(t *testing.T) {
	createDefaults(t, startServer(t), func(t *testing.T, d smallest, header http.Header, answer []byte) {
		t.Helper()
		var got map[string]any
		answer = nodePort.ReplaceAll(answer, []byte(`${1}"<allocated nodePort>"`))
		if err := json.Unmarshal(answer, &got); err != nil {
			t.Fatal(err)
		}
		if got := header.Get("Warning"); got != d.Warning {
			t.Errorf("warning %s, want %s", got, d.Warning)
		}
		if diff := cmp.Diff(d.Answer, got, cmp.Comparer(masked)); diff != "" {
			t.Errorf("(- Kubernetes, + ours)\n%s", diff)
		}
	})
}

var nodePort = regexp.MustCompile(`("(?:nodePort|healthCheckNodePort)":)3[0-9]{4}`)

var maskedPart = regexp.MustCompile(`<[a-zA-Z ]+>`)

// masked compares texts of which one may hold <uid>, <random>, …
func masked(a, b string) bool {
	match := func(pattern, s string) bool {
		quoted := maskedPart.ReplaceAllString(regexp.QuoteMeta(pattern), `[-_:.0-9A-Za-z]+`)
		return regexp.MustCompile("^" + quoted + "$").MatchString(s)
	}
	return a == b || match(a, b) || match(b, a)
}
