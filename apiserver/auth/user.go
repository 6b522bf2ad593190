package auth

import (
	"context"
	"crypto/x509"
	"slices"
)

// User is who sends a request.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// The groups that everybody belongs to, and the one that may do everything
// without a role.
const (
	GroupAuthenticated   = "system:authenticated"
	GroupUnauthenticated = "system:unauthenticated"
	GroupMasters         = "system:masters"
	GroupNodes           = "system:nodes"
	Anonymous            = "system:anonymous"
)

// In reports whether the user belongs to group.
func (u *User) In(group string) bool { return slices.Contains(u.Groups, group) }

// FromCertificate reads a user from a verified client certificate: the common
// name is the user's name, the organizations are the groups.
func FromCertificate(cert *x509.Certificate) *User {
	return &User{
		Name:   cert.Subject.CommonName,
		Groups: append(slices.Clone(cert.Subject.Organization), GroupAuthenticated),
		Extra: map[string][]string{
			"authentication.kubernetes.io/credential-id": {credentialID(cert)},
		},
	}
}

// AnonymousUser is a client without credentials. It may ask whether the server
// is alive, and nothing else.
func AnonymousUser() *User {
	return &User{Name: Anonymous, Groups: []string{GroupUnauthenticated}}
}

type userKey struct{}

// WithUser puts the user of a request into its context.
func WithUser(ctx context.Context, u *User) context.Context {
	return context.WithValue(ctx, userKey{}, u)
}

// UserOf is the user of the request with this context.
func UserOf(ctx context.Context) *User {
	u, _ := ctx.Value(userKey{}).(*User)
	if u == nil {
		return AnonymousUser()
	}
	return u
}
