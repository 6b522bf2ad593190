package apiserver

import (
	"errors"
	"net/http"
	"strings"

	"github.com/podarium/podarium/apiserver/auth"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

var errUnauthorized = errors.New("no valid credentials")

// authenticate finds the user of a request: by bearer token when there is one,
// else by client certificate, which TLS has verified already.
func (s *Server) authenticate(r *http.Request) (*auth.User, error) {
	if header := r.Header.Get("Authorization"); header != "" {
		token, ok := strings.CutPrefix(header, "Bearer ")
		if !ok {
			return nil, errUnauthorized
		}
		return s.userOfToken(r.Context(), strings.TrimSpace(token))
	}
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return auth.FromCertificate(r.TLS.VerifiedChains[0][0]), nil
	}
	return auth.AnonymousUser(), nil
}

// public are the paths that need no credentials: load balancers and people ask
// there whether the server lives.
func public(path string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch first {
	case "healthz", "livez", "readyz":
		return true
	}
	return path == "/version" || path == "/version/"
}

// authorize decides whether the user may do this.
func (s *Server) authorize(r *request) error {
	user := auth.UserOf(r.Context())
	if !r.isResource && public(r.path) {
		return nil
	}
	if user.Name == auth.Anonymous {
		return apierrors.NewUnauthorized("Unauthorized")
	}
	return nil
}
