package kubelet

import (
	"context"
	"fmt"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

// tokens are the ServiceAccount tokens of the node's pods. Each is bound to its pod: it ends with it.
type tokens struct {
	client kubernetes.Interface
	mu     sync.Mutex
	known  map[tokenKey]serviceToken
}

type tokenKey struct {
	pod      types.UID
	audience string
	seconds  int64
}

type serviceToken struct {
	text    string
	refresh time.Time // when a new one has to be asked for
}

func newTokens(client kubernetes.Interface) *tokens {
	return &tokens{client: client, known: map[tokenKey]serviceToken{}}
}

// defaultTokenSeconds is the life of a token whose volume does not say how long it shall live.
const defaultTokenSeconds = 3600

// get returns a token for a pod, a new one when 80 % of the old one's life (or 24 h) are over.
func (t *tokens) get(ctx context.Context, pod *corev1.Pod, want *corev1.ServiceAccountTokenProjection) (serviceToken, error) {
	seconds := int64(defaultTokenSeconds)
	if want.ExpirationSeconds != nil {
		seconds = *want.ExpirationSeconds
	}
	key := tokenKey{pod.UID, want.Audience, seconds}
	t.mu.Lock()
	token, ok := t.known[key]
	t.mu.Unlock()
	now := time.Now()
	if ok && now.Before(token.refresh) {
		return token, nil
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if want.Audience != "" {
		request.Spec.Audiences = []string{want.Audience}
	}
	answer, err := t.client.CoreV1().ServiceAccounts(pod.Namespace).
		CreateToken(ctx, pod.Spec.ServiceAccountName, request, metav1.CreateOptions{})
	if err != nil {
		return serviceToken{}, fmt.Errorf("failed to fetch token: %w", err)
	}
	life := min(answer.Status.ExpirationTimestamp.Sub(now), 30*time.Hour)
	token = serviceToken{answer.Status.Token, now.Add(life * 8 / 10)}
	t.mu.Lock()
	t.known[key] = token
	t.mu.Unlock()
	return token, nil
}

func (t *tokens) release(pod types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.known {
		if key.pod == pod {
			delete(t.known, key)
		}
	}
}
