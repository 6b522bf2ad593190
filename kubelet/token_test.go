package kubelet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// tokenIssuer answers every request with the next token, token-1, token-2, …, each for ten minutes.
type tokenIssuer struct{ issued int }

func (i *tokenIssuer) RoundTrip(r *http.Request) (*http.Response, error) {
	if want := "/api/v1/namespaces/default/serviceaccounts/builder/token"; r.URL.Path != want {
		return nil, fmt.Errorf("asked for %s, want %s", r.URL.Path, want)
	}
	i.issued++
	answer, err := json.Marshal(authenticationv1.TokenRequest{
		TypeMeta: metav1.TypeMeta{Kind: "TokenRequest", APIVersion: "authentication.k8s.io/v1"},
		Status: authenticationv1.TokenRequestStatus{
			Token: fmt.Sprintf("token-%d", i.issued), ExpirationTimestamp: metav1.NewTime(time.Now().Add(10 * time.Minute)),
		},
	})
	return &http.Response{
		StatusCode: http.StatusCreated, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(answer)), Request: r,
	}, err
}

// TestTokenRotation: the token in a volume is renewed when 80 % of its life are over, in the file which the
// container has open by name, and the worker wakes up for it.
func TestTokenRotation(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		issuer := &tokenIssuer{}
		client, err := kubernetes.NewForConfig(&rest.Config{Host: "http://192.0.2.1", Transport: issuer})
		if err != nil {
			t.Fatal(err)
		}
		k := &Kubelet{ctx: t.Context(), tokens: newTokens(client), cfg: Config{RootDir: dir}}
		source := corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}}
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "u1"},
			Spec: corev1.PodSpec{ServiceAccountName: "builder", Volumes: []corev1.Volume{{
				Name: "access", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{source}}},
			}}},
		}
		w := newWorker(k, pod)
		file := filepath.Join(k.podDirs("u1").run, "volumes/kubernetes.io~projected/access/token")
		hold := func(want string, sleep time.Duration) {
			t.Helper()
			if err := w.mountVolumes(pod); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != want {
				t.Errorf("the volume holds %q, %v, want %q", got, err, want)
			}
			if got := w.nextRefresh().Round(time.Second); got != sleep {
				t.Errorf("the worker sleeps for %v, want %v", got, sleep)
			}
		}
		hold("token-1", 8*time.Minute)
		time.Sleep(8*time.Minute - time.Second)
		hold("token-1", time.Second)
		time.Sleep(2 * time.Second)
		hold("token-2", 8*time.Minute)
		if issuer.issued != 2 {
			t.Errorf("%d tokens were asked for, want 2", issuer.issued)
		}
	})
}
