package apiserver

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/golang-jwt/jwt/v5"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podarium/podarium/apiserver/auth"
)

// A stranger who trusts the issuer checks a pod's token with nothing but what
// OpenID Connect Discovery tells him.
func TestOpenIDDiscovery(t *testing.T) {
	c := startServer(t)
	accounts := c.admin().CoreV1().ServiceAccounts("default")
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "reader"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: []string{"vault"}}}
	issued, err := accounts.CreateToken(t.Context(), "reader", request, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	reader := c.http("system:serviceaccount:default:reader", []string{"system:serviceaccounts"})
	var about openIDDocument
	getJSON(t, reader, c.url+"/.well-known/openid-configuration", mediaJSON, &about)
	if about.KeysURI != "https://192.168.56.11:6443/openid/v1/jwks" || !slices.Equal(about.Algorithms, []string{"ES256"}) ||
		!slices.Equal(about.ResponseTypes, []string{"id_token"}) || !slices.Equal(about.SubjectTypes, []string{"public"}) {
		t.Errorf("configuration %+v", about)
	}
	var set struct{ Keys []auth.JWK }
	getJSON(t, reader, c.url+"/openid/v1/jwks", "application/jwk-set+json", &set)
	token, err := jwt.Parse(issued.Status.Token, func(token *jwt.Token) (any, error) {
		for _, k := range set.Keys {
			if k.ID == token.Header["kid"] && k.Type == "EC" && k.Curve == "P-256" {
				point := slices.Concat([]byte{4}, coordinate(t, k.X), coordinate(t, k.Y))
				return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
			}
		}
		return nil, jwt.ErrTokenUnverifiable
	}, jwt.WithIssuer(about.Issuer), jwt.WithAudience("vault"), jwt.WithValidMethods(about.Algorithms))
	if err != nil {
		t.Fatalf("token %s with keys %+v: %v", issued.Status.Token, set.Keys, err)
	}
	if subject, _ := token.Claims.GetSubject(); subject != "system:serviceaccount:default:reader" {
		t.Errorf("subject %s", subject)
	}
	nobody, err := c.http("", nil).Get(c.url + "/openid/v1/jwks")
	if err != nil {
		t.Fatal(err)
	}
	nobody.Body.Close()
	if nobody.StatusCode != http.StatusUnauthorized {
		t.Errorf("without credentials: code %d", nobody.StatusCode)
	}
}

func coordinate(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func getJSON(t *testing.T, client *http.Client, url, contentType string, into any) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != contentType {
		t.Fatalf("%s: code %d, %s: %s", url, resp.StatusCode, resp.Header.Get("Content-Type"), short(body))
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatal(err)
	}
}
