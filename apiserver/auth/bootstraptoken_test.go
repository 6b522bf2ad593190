package auth

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/apiserver/resource"
)

// objectMap is what is stored, by key.
type objectMap map[string]resource.Object

func (m objectMap) Cached(key string) (resource.Object, bool) {
	obj, ok := m[key]
	return obj, ok
}

func (m objectMap) CachedList(string, string) []resource.Object { return nil }

func TestBootstrapToken(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	const good = "abcdef.0123456789abcdef"
	for _, c := range []struct {
		name, token string
		change      func(*corev1.Secret)
		groups      string
	}{
		{"valid", good, func(*corev1.Secret) {}, "system:bootstrappers system:bootstrappers:kubeadm:default-node-token system:authenticated"},
		{"without extra groups", good, func(s *corev1.Secret) { delete(s.Data, "auth-extra-groups") }, "system:bootstrappers system:authenticated"},
		{"without expiration", good, func(s *corev1.Secret) { delete(s.Data, "expiration") }, "system:bootstrappers system:bootstrappers:kubeadm:default-node-token system:authenticated"},
		{"wrong secret", "abcdef.0123456789abcdee", func(*corev1.Secret) {}, ""},
		{"unknown id", "abcdeg.0123456789abcdef", func(*corev1.Secret) {}, ""},
		{"expired", good, func(s *corev1.Secret) { s.Data["expiration"] = []byte("2026-11-21T12:00:00Z") }, ""},
		{"bad expiration", good, func(s *corev1.Secret) { s.Data["expiration"] = []byte("tomorrow") }, ""},
		{"not for authentication", good, func(s *corev1.Secret) { delete(s.Data, "usage-bootstrap-authentication") }, ""},
		{"another type", good, func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, ""},
		{"another id inside", good, func(s *corev1.Secret) { s.Data["token-id"] = []byte("abcdeg") }, ""},
		{"a group that is not its to give", good, func(s *corev1.Secret) { s.Data["auth-extra-groups"] = []byte("system:masters") }, ""},
	} {
		secret := &corev1.Secret{Type: corev1.SecretTypeBootstrapToken, Data: map[string][]byte{
			"token-id": []byte("abcdef"), "token-secret": []byte("0123456789abcdef"), "expiration": []byte("2026-11-22T00:00:00Z"),
			"usage-bootstrap-authentication": []byte("true"), "auth-extra-groups": []byte("system:bootstrappers:kubeadm:default-node-token"),
		}}
		c.change(secret)
		user, err := CheckBootstrapToken(c.token, objectMap{"/registry/secrets/kube-system/bootstrap-token-abcdef": secret}, now)
		switch {
		case c.groups == "" && err == nil:
			t.Errorf("%s: accepted as %v", c.name, user)
		case c.groups != "" && (err != nil || user.Name != "system:bootstrap:abcdef" || strings.Join(user.Groups, " ") != c.groups):
			t.Errorf("%s: %v, %v", c.name, user, err)
		}
	}
}
