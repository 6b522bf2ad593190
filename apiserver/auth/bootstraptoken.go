package auth

import (
	"crypto/subtle"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podarium/podarium/apiserver/resource"
)

// A bootstrap token lets a machine that has nothing else join: with it, its
// kubelet asks for a certificate. It is "abcdef.0123456789abcdef", an ID and a
// secret, and lives in a Secret of kube-system:
//
//	name: bootstrap-token-abcdef
//	type: bootstrap.kubernetes.io/token
//	data: token-id, token-secret, expiration, usage-bootstrap-authentication: "true", auth-extra-groups
//
// See https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/.

var bootstrapToken = regexp.MustCompile(`^([a-z0-9]{6})\.([a-z0-9]{16})$`)

var bootstrapGroup = regexp.MustCompile(`^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$`)

const groupBootstrappers = "system:bootstrappers"

var errBootstrapToken = errors.New("bootstrap token is unknown, expired or not for authentication")

// LooksLikeBootstrapToken tells a bootstrap token from the token of a
// ServiceAccount.
func LooksLikeBootstrapToken(token string) bool { return bootstrapToken.MatchString(token) }

// CheckBootstrapToken finds the user of a bootstrap token at the time now.
func CheckBootstrapToken(token string, objects Objects, now time.Time) (*User, error) {
	parts := bootstrapToken.FindStringSubmatch(token)
	if parts == nil {
		return nil, errBootstrapToken
	}
	id, key := parts[1], resource.Secret.Key("kube-system", "bootstrap-token-"+parts[1])
	obj, ok := objects.Cached(key)
	if !ok {
		return nil, errBootstrapToken
	}
	secret := obj.(*corev1.Secret)
	data := func(name string) string { return string(secret.Data[name]) }
	switch {
	case secret.Type != corev1.SecretTypeBootstrapToken, secret.DeletionTimestamp != nil,
		subtle.ConstantTimeCompare(secret.Data["token-secret"], []byte(parts[2])) != 1,
		data("token-id") != id, data("usage-bootstrap-authentication") != "true":
		return nil, errBootstrapToken
	}
	if text := data("expiration"); text != "" {
		if at, err := time.Parse(time.RFC3339, text); err != nil || !now.Before(at) {
			return nil, errBootstrapToken
		}
	}
	user := &User{Name: "system:bootstrap:" + id, Groups: []string{groupBootstrappers}}
	if extra := data("auth-extra-groups"); extra != "" {
		for group := range strings.SplitSeq(extra, ",") {
			if !bootstrapGroup.MatchString(group) {
				return nil, errBootstrapToken
			}
			user.Groups = append(user.Groups, group)
		}
	}
	slices.Sort(user.Groups)
	user.Groups = append(slices.Compact(user.Groups), GroupAuthenticated)
	return user, nil
}
