package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/podarium/podarium/apiserver/resource"
)

// ServiceAccountUser is the name of a ServiceAccount as a user.
func ServiceAccountUser(namespace, name string) string {
	return "system:serviceaccount:" + namespace + ":" + name
}

// Tokens signs and checks the tokens of ServiceAccounts: JSON Web Tokens (RFC
// 7519) whose claims say for which account, and for which pod, they were made.
type Tokens struct {
	issuer  string
	signer  crypto.Signer
	method  jwt.SigningMethod
	keyID   string
	keys    map[string]crypto.PublicKey // by key ID
	objects Objects
}

// NewTokens reads the private key that signs and the public keys that check.
func NewTokens(issuer, signingKeyFile string, keyFiles []string, objects Objects) (*Tokens, error) {
	t := &Tokens{issuer: issuer, keys: map[string]crypto.PublicKey{}, objects: objects}
	if signingKeyFile != "" {
		signer, err := readPrivateKey(signingKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read --service-account-signing-key-file %s: %w", signingKeyFile, err)
		}
		t.signer = signer
		if t.method, err = methodOf(signer.Public()); err != nil {
			return nil, err
		}
		if t.keyID, err = t.addKey(signer.Public()); err != nil {
			return nil, err
		}
	}
	for _, file := range keyFiles {
		keys, err := readPublicKeys(file)
		if err != nil {
			return nil, fmt.Errorf("read --service-account-key-file %s: %w", file, err)
		}
		for _, key := range keys {
			if _, err := t.addKey(key); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

func (t *Tokens) addKey(key crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	id := base64.RawURLEncoding.EncodeToString(sum[:])
	t.keys[id] = key
	return id, nil
}

func methodOf(key crypto.PublicKey) (jwt.SigningMethod, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return jwt.SigningMethodRS256, nil
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return jwt.SigningMethodES256, nil
		case 384:
			return jwt.SigningMethodES384, nil
		}
	}
	return nil, fmt.Errorf("key of type %T cannot sign tokens", key)
}

func readPrivateKey(file string) (crypto.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if signer, ok := key.(crypto.Signer); ok {
				return signer, nil
			}
		}
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return key, nil
		}
		if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("no private key in PEM form")
}

func readPublicKeys(file string) ([]crypto.PublicKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var keys []crypto.PublicKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if key, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			keys = append(keys, key)
		}
	}
	if signer, err := readPrivateKey(file); err == nil {
		keys = append(keys, signer.Public())
	}
	if len(keys) == 0 {
		return nil, errors.New("no public key in PEM form")
	}
	return keys, nil
}

// Ref names an object together with its uid, so that a later object of the
// same name does not inherit its tokens.
type Ref struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid,omitempty"`
}

type kubernetesClaims struct {
	Namespace      string `json:"namespace"`
	Node           *Ref   `json:"node,omitempty"`
	Pod            *Ref   `json:"pod,omitempty"`
	Secret         *Ref   `json:"secret,omitempty"`
	ServiceAccount Ref    `json:"serviceaccount"`
}

type claims struct {
	jwt.RegisteredClaims
	Kubernetes kubernetesClaims `json:"kubernetes.io"`
}

// Request is a token to be made.
type Request struct {
	Account   *corev1.ServiceAccount
	Pod       *corev1.Pod    // bound to it, when set
	Secret    *corev1.Secret // likewise
	Node      *Ref
	Audiences []string // empty: the API server
	Lifetime  time.Duration
}

// Issue signs a token.
func (t *Tokens) Issue(r Request, now time.Time) (string, time.Time, error) {
	if t.signer == nil {
		return "", time.Time{}, errors.New("no --service-account-signing-key-file is configured")
	}
	expires := now.Add(r.Lifetime)
	c := claims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: t.issuer, Subject: ServiceAccountUser(r.Account.Namespace, r.Account.Name), Audience: r.Audiences,
			ExpiresAt: jwt.NewNumericDate(expires), IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ID: string(uuid.NewUUID()),
		},
		Kubernetes: kubernetesClaims{Namespace: r.Account.Namespace, ServiceAccount: Ref{r.Account.Name, r.Account.UID}, Node: r.Node},
	}
	if len(r.Audiences) == 0 {
		c.Audience = jwt.ClaimStrings{t.issuer}
	}
	if r.Pod != nil {
		c.Kubernetes.Pod = &Ref{r.Pod.Name, r.Pod.UID}
	}
	if r.Secret != nil {
		c.Kubernetes.Secret = &Ref{r.Secret.Name, r.Secret.UID}
	}
	token := jwt.NewWithClaims(t.method, c)
	token.Header["kid"] = t.keyID
	signed, err := token.SignedString(t.signer)
	return signed, expires, err
}

// Check verifies a token for one of the audiences (empty: the API server) and
// returns its user, and which of the audiences it is good for.
func (t *Tokens) Check(text string, audiences []string) (*User, []string, error) {
	if len(audiences) == 0 {
		audiences = []string{t.issuer}
	}
	var c claims
	_, err := jwt.ParseWithClaims(text, &c, func(token *jwt.Token) (any, error) {
		id, _ := token.Header["kid"].(string)
		if key, ok := t.keys[id]; ok {
			return key, nil
		}
		return nil, errors.New("token is signed with an unknown key")
	}, jwt.WithIssuer(t.issuer), jwt.WithExpirationRequired(), jwt.WithValidMethods([]string{"RS256", "ES256", "ES384"}), jwt.WithLeeway(10*time.Second))
	if err != nil {
		return nil, nil, err
	}
	var good []string
	for _, want := range audiences {
		for _, have := range c.Audience {
			if want == have {
				good = append(good, want)
			}
		}
	}
	if len(good) == 0 {
		return nil, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", []string(c.Audience), audiences)
	}
	if err := t.stillHolds(&c.Kubernetes); err != nil {
		return nil, nil, err
	}
	return userOf(&c), good, nil
}

// stillHolds: a token dies with its account, and with the pod it was made for.
func (t *Tokens) stillHolds(k *kubernetesClaims) error {
	account, ok := t.objects.Cached(resource.ServiceAccount.Key(k.Namespace, k.ServiceAccount.Name))
	if !ok || account.GetUID() != k.ServiceAccount.UID {
		return fmt.Errorf("service account %s/%s has been deleted", k.Namespace, k.ServiceAccount.Name)
	}
	if k.Pod != nil {
		pod, ok := t.objects.Cached(resource.Pod.Key(k.Namespace, k.Pod.Name))
		if !ok || pod.GetUID() != k.Pod.UID {
			return errors.New("service account token has been invalidated")
		}
	}
	if k.Secret != nil {
		secret, ok := t.objects.Cached(resource.Secret.Key(k.Namespace, k.Secret.Name))
		if !ok || secret.GetUID() != k.Secret.UID {
			return errors.New("service account token has been invalidated")
		}
	}
	return nil
}

func userOf(c *claims) *User {
	k := c.Kubernetes
	u := &User{
		Name:   ServiceAccountUser(k.Namespace, k.ServiceAccount.Name),
		UID:    string(k.ServiceAccount.UID),
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + k.Namespace, GroupAuthenticated},
		Extra:  map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=" + c.ID}},
	}
	if k.Pod != nil {
		u.Extra["authentication.kubernetes.io/pod-name"] = []string{k.Pod.Name}
		u.Extra["authentication.kubernetes.io/pod-uid"] = []string{string(k.Pod.UID)}
	}
	if k.Node != nil {
		u.Extra["authentication.kubernetes.io/node-name"] = []string{k.Node.Name}
		u.Extra["authentication.kubernetes.io/node-uid"] = []string{string(k.Node.UID)}
	}
	return u
}

// LooksLikeServiceAccount reports whether a user name is that of an account.
func LooksLikeServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ":")
}
